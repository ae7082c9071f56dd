// Counts clients by address, for the bounds of what one client may take: DNS questions and connections of agents.

/**
 * Returns the client to whose share an address counts: an IPv4 address is its own client; of an IPv6 address it is the
 * /64, because one host may use all addresses of a /64 (RFC 4291, 2.5.1).
 */
export function shareOf(address: string): string {
  if (!address.includes(':')) return address
  const [head = '', tail] = address.replace(/%.*$/, '').split('::')
  const groups = head === '' ? [] : head.split(':')
  const rest = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - rest.length)
  const all = [...groups, ...Array.from({ length: zeros }, () => '0'), ...rest]
  return `${all
    .slice(0, 4)
    .map((group) => (parseInt(group, 16) || 0).toString(16))
    .join(':')}::/64`
}
