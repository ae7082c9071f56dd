// This file orders the addresses of a host by how likely another host can reach them, best first. Lists are cut to
// the wire's limit after this order, so that a reachable address is never cut in favour of one that is not.
import { cidrContains, familyOf } from '../model/cidr.ts'
import { UNROUTABLE } from '../model/unroutable.ts'
import type { Cidr, Ip } from '../model/values.ts'

/** An address of this host and the device that has it. */
export interface OwnAddress {
  readonly ip: Ip
  readonly device: string
}

/** The addresses of this host, as its kernel lists them. */
export interface OwnNetwork {
  /** The addresses are in the order of the devices. */
  readonly addresses: readonly OwnAddress[]
  /** Source addresses that the kernel chooses towards the Internet: at most one of each family. */
  readonly defaultSources: readonly Ip[]
  /** Bridges that no network card is part of: those of containers and virtual machines. */
  readonly innerBridges: ReadonlySet<string>
}

/**
 * Returns the addresses that another host should try, in this order:
 *   1. Source addresses of the default routes, IPv4 first: the peer sees these where no NAT translates.
 *   2. Other global addresses.
 *   3. Other private addresses.
 *   4. Addresses of container bridges, only when there is no other address: they are the same on many hosts, and a
 *      joining agent would dial itself.
 * Loopback, link-local and multicast addresses are left out, and so are those of `without.devices` and inside
 * `without.prefixes`.
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

// Prefixes that no other host can reach, and 240.0.0.0/4, which many routers drop.
const NEVER: readonly Cidr[] = [...UNROUTABLE, '240.0.0.0/4' as Cidr]

// Private IPv4 (RFC 1918), carrier-grade NAT (RFC 6598) and unique local IPv6 (RFC 4193).
const PRIVATE: readonly Cidr[] = [
  '10.0.0.0/8' as Cidr,
  '172.16.0.0/12' as Cidr,
  '192.168.0.0/16' as Cidr,
  '100.64.0.0/10' as Cidr,
  'fc00::/7' as Cidr
]

// Devices that have service addresses of kube-proxy and of node-local DNS: such an address is not one of this host.
const SERVICE_DEVICES = /^(kube-ipvs|nodelocaldns)/

// Devices made by Docker, by the CNI plugins of containerd and others, by libvirt, LXC, VirtualBox and VMware.
const CONTAINER_DEVICES =
  /^(docker|br-|cni|cbr|veth|virbr|vnet|vmnet|vboxnet|cali|tunl|vxlan|flannel|cilium|lxc|lxd|incus|podman|nerdctl|weave|antrea|ovn|ovs-|genev|kube-bridge)/

/** Whether an address is of a private network: it means another host, or none, elsewhere. */
export function isPrivate(ip: Ip): boolean {
  return isInside(ip, PRIVATE)
}

function isInside(ip: Ip, prefixes: readonly Cidr[]): boolean {
  return prefixes.some((prefix) => cidrContains(prefix, ip))
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((part, index) => part !== b[index])
  return at < 0 ? 0 : (a[at] ?? 0) - (b[at] ?? 0)
}
