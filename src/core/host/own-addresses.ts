// Which of a host's addresses another host should try, best first. Lists are cut to the wire's limit after this order, so that what
// reaches this host is never lost behind what does not.
import { cidrContains, familyOf } from '../model/cidr.ts'
import type { Cidr, Ip } from '../model/values.ts'

export interface OwnAddress {
  readonly ip: Ip
  readonly device: string
}

export interface OwnNetwork {
  /** In the order of the devices. */
  readonly addresses: readonly OwnAddress[]
  /** What the kernel takes as the source towards the Internet: at most one of each family. */
  readonly defaultSources: readonly Ip[]
  /** Bridges that no network card is part of: those of containers and virtual machines. */
  readonly innerBridges: ReadonlySet<string>
}

/**
 * 1. The source addresses of the default routes, IPv4 first: what the other side sees where nothing translates.
 * 2. Further global addresses. 3. Further private ones. 4. Only when there is nothing else, those of bridges of containers: they
 * are the same on many hosts, and a newcomer would dial itself.
 * Never: loopback, link-local, multicast, and addresses of `devices` and inside `prefixes`.
 */
export function usefulAddresses(
  network: OwnNetwork,
  without: { readonly devices: readonly string[]; readonly prefixes: readonly Cidr[] }
): readonly Ip[] {
  const uplinks = new Set(
    network.addresses.filter(({ ip }) => network.defaultSources.includes(ip)).map(({ device }) => device)
  )
  const ranked = network.addresses
    .filter(
      ({ ip, device }) =>
        !without.devices.includes(device) &&
        !isInside(ip, NEVER) &&
        !isInside(ip, without.prefixes) &&
        !SERVICE_DEVICES.test(device)
    )
    .map(({ ip, device }, index) => {
      const isInner =
        !uplinks.has(device) && (network.innerBridges.has(device) || CONTAINER_DEVICES.test(device))
      const isDefault = network.defaultSources.includes(ip)
      const rank = isInner ? 3 : isDefault ? 0 : isInside(ip, PRIVATE) ? 2 : 1
      return { ip, isInner, order: [rank, familyOf(ip), index] as const }
    })
    .sort((a, b) => compare(a.order, b.order))
  const outer = ranked.filter(({ isInner }) => !isInner)
  return [...new Set((outer.length > 0 ? outer : ranked).map(({ ip }) => ip))]
}

// RFC 6890: no other host reaches these.
const NEVER: readonly Cidr[] = [
  '0.0.0.0/8' as Cidr,
  '127.0.0.0/8' as Cidr,
  '169.254.0.0/16' as Cidr,
  '224.0.0.0/3' as Cidr,
  '::/127' as Cidr,
  'fe80::/10' as Cidr,
  'ff00::/8' as Cidr
]

// RFC 1918, carriers' NAT (RFC 6598), unique local IPv6 (RFC 4193).
const PRIVATE: readonly Cidr[] = [
  '10.0.0.0/8' as Cidr,
  '172.16.0.0/12' as Cidr,
  '192.168.0.0/16' as Cidr,
  '100.64.0.0/10' as Cidr,
  'fc00::/7' as Cidr
]

// Devices that bear service addresses of kube-proxy and of node-local DNS: none is this host's.
const SERVICE_DEVICES = /^(kube-ipvs|nodelocaldns)/

// What Docker, containerd's and others' CNI plugins, libvirt, LXC, VirtualBox and VMware make.
const CONTAINER_DEVICES =
  /^(docker|br-|cni|cbr|veth|virbr|vnet|vmnet|vboxnet|cali|tunl|vxlan|flannel|cilium|lxc|lxd|incus|podman|nerdctl|weave|antrea|ovn|ovs-|genev|kube-bridge)/

function isInside(ip: Ip, prefixes: readonly Cidr[]): boolean {
  return prefixes.some((prefix) => cidrContains(prefix, ip))
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((part, index) => part !== b[index])
  return at < 0 ? 0 : (a[at] ?? 0) - (b[at] ?? 0)
}
