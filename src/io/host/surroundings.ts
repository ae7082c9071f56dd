// The networks, default gateways and addresses that this host has without the mesh, read from the kernel. The tunnel device and our
// own routes are left out.
import { parseIp } from '../../core/model/cidr.ts'
import type { HostNetwork, Surroundings } from '../../core/host/surroundings.ts'
import { parseAddresses, parseRoutes, type KernelRoute } from './tools/ip-json.ts'
import type { HostNames, Run } from './ports.ts'

/** Without `resolvers`, which are no matter of the kernel. Errors: HostError of `ip`. */
export async function readSurroundings(
  run: Run,
  names: Pick<HostNames, 'device' | 'routeProtocol'>,
  signal: AbortSignal
): Promise<Omit<Surroundings, 'resolvers'>> {
  const main = async (family: 4 | 6): Promise<readonly KernelRoute[]> => {
    const args = [`-${family}`, '-j', 'route', 'show', 'table', 'main']
    const { exitCode, stdout } = await run('ip', args, { signal, okCodes: [2] })
    return exitCode === 0 ? parseRoutes(stdout, family) : [] // IPv6 may be off altogether
  }
  const [four, six, addresses] = await Promise.all([
    main(4),
    main(6),
    run('ip', ['-j', 'address', 'show'], { signal })
  ])
  const routes = [...four, ...six].filter(
    ({ device, protocol }) => device !== names.device && protocol !== String(names.routeProtocol)
  )
  const isDefault = ({ destination }: KernelRoute): boolean => /^(0\.0\.0\.0|::)\/0$/.test(destination)
  return {
    networks: routes
      .filter((route) => !isDefault(route) && !/^(fe80|ff00):/.test(route.destination))
      .map(({ destination, device, type, gateways }): HostNetwork => ({
        destination,
        device: device === '' ? type : device,
        onLink: gateways.length === 0
      })),
    gateways: [...new Set(routes.filter(isDefault).flatMap(({ gateways }) => gateways))],
    addresses: [...parseAddresses(addresses.stdout)].filter(
      (ip) => ip !== parseIp('127.0.0.1') && ip !== parseIp('::1')
    )
  }
}
