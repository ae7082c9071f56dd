// Reads from the kernel the networks, default gateways, devices and addresses that this host has without the mesh. They stay
// outside the tunnel, also if other clusters announce prefixes that contain them
// (docs/decisions/0040-network-of-the-host-first.md). The tunnel device and our own routes are left out.
import { parseIp } from '../../core/model/cidr.ts'
import type { HostNetwork, Surroundings } from '../../core/host/surroundings.ts'
import { parseAddresses, parseDevices, parseRoutes, type KernelRoute } from './tools/ip-json.ts'
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
  const main = async (family: 4 | 6): Promise<readonly KernelRoute[]> => {
    const args = [`-${family}`, '-j', 'route', 'show', 'table', 'main']
    const { exitCode, stdout } = await run('ip', args, { signal, okCodes: [2] })
    return exitCode === 0 ? parseRoutes(stdout, family) : [] // exit code 2: IPv6 is off
  }
  const [four, six, addresses] = await Promise.all([
    main(4),
    main(6),
    run('ip', ['-d', '-j', 'address', 'show'], { signal })
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
    devices: parseDevices(addresses.stdout)
      .filter(({ name }) => name !== names.device)
      .map((device) => ({ ...device, isDefault: defaults.has(device.name) })),
    gateways: [...new Set(routes.filter(isDefault).flatMap(({ gateways }) => gateways))],
    addresses: [...parseAddresses(addresses.stdout)].filter(
      (ip) => ip !== parseIp('127.0.0.1') && ip !== parseIp('::1')
    )
  }
}
