// Reads from the kernel the networks, default gateways, devices and addresses that this host has without the mesh. They stay
// outside the tunnel, also if other clusters announce prefixes that contain them
// (docs/decisions/0040-network-of-the-host-first.md). The tunnel device and our own routes are left out.
import { parseIp } from '../../core/model/cidr.ts'
import type { HostNetwork, Surroundings } from '../../core/host/surroundings.ts'
import { addressesOf, outerDevices, type KernelRoute } from './tools/ip-json.ts'
import { readLinks, readRoutes } from './tools/ip.ts'
import type { HostNames, Run } from './ports.ts'

/**
 * Returns the routes of table main and the addresses of all devices. src/app/host/host-networks.ts calls it and adds
 * `resolvers`, which the kernel does not know. Errors: HostError of `ip`.
 */
export async function readSurroundings(
  run: Run,
  names: Pick<HostNames, 'device' | 'routeProtocol'>,
  signal: AbortSignal
): Promise<Omit<Surroundings, 'resolvers'>> {
  const [four, six, links] = await Promise.all([
    readRoutes(run, { family: 4, table: 'main' }, signal),
    readRoutes(run, { family: 6, table: 'main' }, signal),
    readLinks(run, signal)
  ])
  const routes = [...four, ...six].filter(
    ({ device, protocol }) => device !== names.device && protocol !== String(names.routeProtocol)
  )
  const isDefault = ({ destination }: KernelRoute): boolean => /^(0\.0\.0\.0|::)\/0$/.test(destination)
  const defaults = new Set(routes.filter(isDefault).map(({ device }) => device))
  return {
    networks: routes
      // Link-local and multicast routes exist on every device and say nothing about a network.
      .filter((route) => !isDefault(route) && !/^(fe80|ff00):/.test(route.destination))
      .map(({ destination, device, type, gateways }): HostNetwork => ({
        destination,
        // A route without a device is, for example, of the type blackhole or unreachable.
        device: device === '' ? type : device,
        onLink: gateways.length === 0
      })),
    devices: outerDevices(links)
      .filter(({ name }) => name !== names.device)
      .map((device) => ({ ...device, isDefault: defaults.has(device.name) })),
    gateways: [...new Set(routes.filter(isDefault).flatMap(({ gateways }) => gateways))],
    addresses: [...addressesOf(links)].filter((ip) => ip !== parseIp('127.0.0.1') && ip !== parseIp('::1'))
  }
}
