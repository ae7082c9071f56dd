// `meshd cleanup` removes everything that the agent has set up on this host: tunnel, routes, tables, services and
// changed sysctls, which are set back. An agent that stops leaves all this in place, so that traffic flows on.
import { endDnsProcess } from '../../io/dns/process/client.ts'
import { CLEANUP_DEADLINE_MS, hostOf } from '../host/data-plane.ts'
import { dnsControlPath } from '../session/dns-clients.ts'
import type { Settings } from '../settings/settings.ts'

/**
 * Cleans the host of a stopped agent, and ends the DNS responder, which outlives the agent. The state folder stays.
 * Errors: HostError; its code is SECOND_INSTANCE when an agent still runs on this host.
 */
export async function cleanup(settings: Settings): Promise<void> {
  // Nothing here sets up the tunnel, so its key is not needed.
  const host = hostOf(settings, { privateKey: () => '', warn: () => undefined })
  await host.start()
  await host.cleanup(AbortSignal.timeout(CLEANUP_DEADLINE_MS))
  await endDnsProcess(dnsControlPath(settings))
  await host.stop()
}
