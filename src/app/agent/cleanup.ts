// `meshd cleanup` removes everything that the agent has set up on this host: tunnel, routes, tables, services and
// changed sysctls, which are set back. An agent that stops leaves all this in place, so that traffic flows on.
import { HOST_PARTS, type Host, type HostState } from '../../core/host/host-state.ts'
import { endDnsProcess } from '../../io/dns/process/client.ts'
import { hostNames } from '../../io/host/ports.ts'
import { createRun } from '../../io/host/tools/run.ts'
import { markedDevices } from '../../io/host/tunnel/wireguard/marked-devices.ts'
import { CLEANUP_DEADLINE_MS, hostOf } from '../host/data-plane.ts'
import { dnsControlPath } from '../session/dns-clients.ts'
import type { Settings } from '../settings/settings.ts'

/**
 * Cleans the host of a stopped agent, and ends the DNS responder, which outlives the agent. The state folder stays.
 * Resolves to a text for the operator. Errors: HostError; its code is SECOND_INSTANCE when an agent still runs on this
 * host.
 */
export async function cleanup(settings: Settings): Promise<string> {
  // Nothing here sets up the tunnel, so its key is not needed.
  const host = hostOf(settings, { privateKey: () => '', warn: () => undefined })
  await host.start()
  const names = hostNames(settings.device, () => [])
  const text = await cleanHost(host, {
    endDns: () => endDnsProcess(dnsControlPath(settings)),
    others: () => markedDevices(createRun(), names, AbortSignal.timeout(CLEANUP_DEADLINE_MS))
  })
  await host.stop()
  return text
}

/**
 * Cleans a host that is started, and returns the lines that say what was there before. `others`: the devices of other
 * names that an agent has made; they are left. Errors: HostError.
 */
export async function cleanHost(
  host: Pick<Host, 'look' | 'cleanup'>,
  {
    endDns,
    others
  }: { readonly endDns: () => Promise<boolean>; readonly others: () => Promise<readonly string[]> }
): Promise<string> {
  const { found, failures } = await host.look(HOST_PARTS, AbortSignal.timeout(CLEANUP_DEADLINE_MS))
  await host.cleanup(AbortSignal.timeout(CLEANUP_DEADLINE_MS))
  const endedDns = await endDns()
  const removed = removedOf(found)
  const { sysctls = [] } = found
  const lines = [
    ...(removed.length === 0 ? [] : [`Removed from this host: ${removed.join(', ')}.`]),
    ...(failures.length === 0
      ? []
      : [
          `Removed without a count, because it could not be read before: ${failures.map(({ part }) => part).join(', ')}.`
        ]),
    ...(sysctls.length === 0
      ? []
      : [`Set back to their values before meshd: ${count(sysctls.length, 'sysctl')}.`]),
    ...(endedDns ? ['Ended: the DNS responder.'] : [])
  ]
  const left = (await others()).map(
    (device) =>
      `Left: the device ${device}, which an agent has made under another name than the setting device says. Remove it with: meshd cleanup --device ${device}`
  )
  return `${[...(lines.length === 0 ? [NOTHING] : lines), ...left].join('\n')}\n`
}

const NOTHING =
  'Nothing to remove: this host has no tunnel, route, virtual server, packet filter or DNS responder of meshd.'

function removedOf({
  tunnel,
  peers = [],
  routes = [],
  vips = [],
  virtualServers = [],
  filter
}: Partial<HostState>): readonly string[] {
  return [
    ...(tunnel === undefined ? [] : [`the tunnel ${tunnel.device} with ${count(peers.length, 'peer')}`]),
    ...(routes.length === 0 ? [] : [count(routes.length, 'route')]),
    ...(vips.length === 0 ? [] : [count(vips.length, 'service prefix', 'service prefixes')]),
    ...(virtualServers.length === 0 ? [] : [count(virtualServers.length, 'virtual server')]),
    ...(filter === undefined ? [] : ['the packet filter'])
  ]
}

function count(n: number, noun: string, plural = `${noun}s`): string {
  return `${n} ${n === 1 ? noun : plural}`
}
