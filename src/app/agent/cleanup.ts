// `meshd cleanup` removes everything that the agent has set up on this host.
import { endDnsProcess } from '../../io/dns/process/client.ts'
import { CLEANUP_DEADLINE_MS, hostOf } from '../host/data-plane.ts'
import { dnsControlPath } from '../session/dns-clients.ts'
import type { Settings } from '../settings/settings.ts'

/** Cleans the host of a stopped agent. Errors: HostError; SECOND_INSTANCE when an agent still runs. */
export async function cleanup(settings: Settings): Promise<void> {
  const host = hostOf(settings, { privateKey: () => '', warn: () => undefined })
  await host.start()
  await host.cleanup(AbortSignal.timeout(CLEANUP_DEADLINE_MS))
  await endDnsProcess(dnsControlPath(settings))
  await host.stop()
}
