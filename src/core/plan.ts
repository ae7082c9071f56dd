// From what a host is to what it should be, in steps.
// Laws (tested as properties)
//   1. plan(x, x) is empty.
//   2. applyOps(have, plan(want, have)) is want. Two things an operation cannot undo are left alone: a sysctl that is no
//      longer wanted (cleanup restores it), and a peer address where none is wanted (WireGuard cannot forget one).
//   3. A plan cut short anywhere converges with the next pass.
//   4. Make before break: link → filter → sysctls → peers → routes → virtual servers → VIPs, removals after that and in
//      reverse; a prefix that some peer has and another gets is never without an owner in between.
import type { HostOp, HostState, RealServer, Tunnel, VirtualServer, WireguardPeer } from './host.ts'
import { realServerKey, sortedPrefixes, virtualServerKey } from './host-order.ts'
import { unionHost } from './host-union.ts'
import type { Cidr, WireguardKey } from './model.ts'

export interface PlanOptions {
  /** False before the first complete snapshot: add only, never delete or narrow. Default true. */
  readonly deletes?: boolean
}

export function plan(want: HostState, have: HostState, options: PlanOptions = {}): readonly HostOp[] {
  const goal = options.deletes === false ? unionHost(want, have) : want
  if (goal.tunnel && have.tunnel && goal.tunnel.device !== have.tunnel.device) return rebuild(goal, have)
  const servers = pairVirtualServers(goal.virtualServers, have.virtualServers)
  return [
    ...tunnelOps(goal.tunnel, have.tunnel),
    ...filterOps(goal, have),
    ...sysctlOps(goal, have),
    ...peerOps(goal.peers, have.peers),
    ...exceptionsFirst(additions(goal.routes, have.routes)).map((route): HostOp => ({
      kind: 'addRoute',
      route
    })),
    ...virtualServerOps(servers),
    ...exceptionsFirst(additions(goal.vips, have.vips)).map((vip): HostOp => ({ kind: 'addVip', vip })),
    ...removals(goal, have, servers.gone)
  ]
}

function tunnelOps(want: Tunnel | undefined, have: Tunnel | undefined): readonly HostOp[] {
  return want === undefined || (have !== undefined && sameTunnel(want, have))
    ? []
    : [{ kind: 'setTunnel', tunnel: want }]
}

function filterOps({ filter: want }: HostState, { filter: have }: HostState): readonly HostOp[] {
  if (want === undefined) return []
  const same =
    have !== undefined &&
    want.probePort === have.probePort &&
    want.mtu === have.mtu &&
    sameSet(want.remoteSources, have.remoteSources) &&
    sameSet(want.localDestinations, have.localDestinations) &&
    sameSet(want.ownNetworks ?? [], have.ownNetworks ?? [])
  return same ? [] : [{ kind: 'setFilter', filter: want }]
}

function sysctlOps(want: HostState, have: HostState): readonly HostOp[] {
  const values = new Map(have.sysctls.map(({ name, value }) => [name, value]))
  return want.sysctls
    .filter(({ name, value }) => values.get(name) !== value)
    .map((sysctl) => ({ kind: 'setSysctl', sysctl }))
}

/**
 * WireGuard hands a prefix over in one step: who is given it takes it from who had it. So a peer that gives prefixes away
 * keeps them until their new owner's turn, even where two peers swap.
 */
function peerOps(want: readonly WireguardPeer[], have: readonly WireguardPeer[]): readonly HostOp[] {
  const owners = new Map(
    have.flatMap((peer) => peer.allowedIps.map((cidr) => [cidr, peer.publicKey] as const))
  )
  const heirs = new Map(
    want.flatMap((peer) => peer.allowedIps.map((cidr) => [cidr, peer.publicKey] as const))
  )
  const before = new Map(have.map((peer) => [peer.publicKey, peer]))
  const done = new Set<WireguardKey>()
  const ops: HostOp[] = []
  for (const peer of want) {
    const old = before.get(peer.publicKey)
    const held = old?.allowedIps.filter((cidr) => owners.get(cidr) === peer.publicKey) ?? []
    const lent = held.filter((cidr) => isAwaited(heirs.get(cidr), peer.publicKey, done))
    const next = { ...peer, allowedIps: sortedPrefixes([...peer.allowedIps, ...lent]) }
    if (old === undefined || !samePeer(next, { ...old, allowedIps: held }))
      ops.push({ kind: 'setPeer', peer: next })
    for (const cidr of peer.allowedIps) owners.set(cidr, peer.publicKey)
    done.add(peer.publicKey)
  }
  return ops
}

function isAwaited(
  heir: WireguardKey | undefined,
  self: WireguardKey,
  done: ReadonlySet<WireguardKey>
): boolean {
  return heir !== undefined && heir !== self && !done.has(heir)
}

function virtualServerOps({ paired }: Pairing): readonly HostOp[] {
  return paired
    .filter(([want, before]) => before === undefined || !sameVirtualServer(want, before))
    .map(([virtualServer, before]) => ({ kind: 'setVirtualServer', virtualServer, before }))
}

interface Pairing {
  readonly paired: readonly (readonly [want: VirtualServer, have: VirtualServer | undefined])[]
  readonly gone: readonly VirtualServer[]
}

/** Both lists are in one order as a rule and differ in a few places: only what lies between those is looked up by key. */
function pairVirtualServers(want: readonly VirtualServer[], have: readonly VirtualServer[]): Pairing {
  const shorter = Math.min(want.length, have.length)
  let head = 0
  while (head < shorter && isSameKey(want[head], have[head])) head += 1
  let tail = 0
  while (tail < shorter - head && isSameKey(want.at(-1 - tail), have.at(-1 - tail))) tail += 1
  const old = new Map(
    have.slice(head, have.length - tail).map((server) => [virtualServerKey(server), server])
  )
  const shift = have.length - want.length
  const paired = want.map((server, index) => {
    if (index < head) return [server, have[index]] as const
    if (index >= want.length - tail) return [server, have[index + shift]] as const
    const key = virtualServerKey(server)
    const before = old.get(key)
    old.delete(key)
    return [server, before] as const
  })
  return { paired, gone: [...old.values()] }
}

function isSameKey(left: VirtualServer | undefined, right: VirtualServer | undefined): boolean {
  return left?.vip === right?.vip && left?.protocol === right?.protocol && left?.port === right?.port
}

interface Destined {
  readonly destination: Cidr
  readonly source: string | undefined
  readonly kind?: 'throw' | 'unreachable'
  readonly mtu?: number
}

function additions<T extends Destined>(want: readonly T[], have: readonly T[]): readonly T[] {
  const old = new Map(have.map((item) => [item.destination, item]))
  return want.filter((item) => {
    const before = old.get(item.destination)
    return before === undefined || !sameRoute(item, before)
  })
}

function sameRoute(left: Destined, right: Destined): boolean {
  return left.source === right.source && left.kind === right.kind && left.mtu === right.mtu
}

/** So that no address of the host's own networks is in the tunnel, not even between two operations. */
function exceptionsFirst<T extends Destined>(routes: readonly T[]): readonly T[] {
  return routes.toSorted((a, b) => Number(b.kind === 'throw') - Number(a.kind === 'throw'))
}

function exceptionsLast<T extends Destined>(routes: readonly T[]): readonly T[] {
  return exceptionsFirst(routes).toReversed()
}

function removals(want: HostState, have: HostState, gone: readonly VirtualServer[]): readonly HostOp[] {
  const peers = new Set(want.peers.map(({ publicKey }) => publicKey))
  return [
    ...exceptionsLast(vanished(want.vips, have.vips)).map((vip): HostOp => ({ kind: 'removeVip', vip })),
    ...gone.map((virtualServer): HostOp => ({ kind: 'removeVirtualServer', virtualServer })),
    ...exceptionsLast(vanished(want.routes, have.routes)).map((route): HostOp => ({
      kind: 'removeRoute',
      route
    })),
    ...have.peers
      .filter(({ publicKey }) => !peers.has(publicKey))
      .map(({ publicKey }): HostOp => ({ kind: 'removePeer', publicKey })),
    ...(have.filter && !want.filter ? [{ kind: 'removeFilter' } as const] : []),
    ...(have.tunnel && !want.tunnel ? [{ kind: 'removeTunnel' } as const] : [])
  ]
}

function vanished<T extends Destined>(want: readonly T[], have: readonly T[]): readonly T[] {
  const still = new Set(want.map(({ destination }) => destination))
  return have.filter(({ destination }) => !still.has(destination))
}

/** A device cannot be renamed with its routes: everything on it goes, then comes anew. */
function rebuild(want: HostState, have: HostState): readonly HostOp[] {
  const bare: HostState = { ...have, tunnel: undefined, peers: [], routes: [] }
  return [...removals(bare, have, []), ...plan(want, bare)]
}

function sameTunnel(left: Tunnel, right: Tunnel): boolean {
  return (
    left.device === right.device &&
    left.listenPort === right.listenPort &&
    left.mtu === right.mtu &&
    left.publicKey === right.publicKey
  )
}

function samePeer(want: WireguardPeer, have: WireguardPeer): boolean {
  return (
    want.keepaliveSeconds === have.keepaliveSeconds &&
    (want.peerAddress === undefined || want.peerAddress === have.peerAddress) &&
    sameSet(want.allowedIps, have.allowedIps)
  )
}

function sameVirtualServer(left: VirtualServer, right: VirtualServer): boolean {
  return (
    left === right ||
    (left.scheduler === right.scheduler &&
      left.affinitySeconds === right.affinitySeconds &&
      sameRealServers(left.realServers, right.realServers))
  )
}

/** In the same order as a rule, and then without allocating: a host may have 100,000 of them. */
function sameRealServers(left: readonly RealServer[], right: readonly RealServer[]): boolean {
  if (left === right) return true
  if (left.length !== right.length) return false
  const aligned = left.every((server, index) => {
    const other = right[index]
    return (
      other !== undefined &&
      server.ip === other.ip &&
      server.port === other.port &&
      server.weight === other.weight
    )
  })
  if (aligned) return true
  const weights = new Map(right.map((server) => [realServerKey(server), server.weight]))
  return left.every((server) => weights.get(realServerKey(server)) === server.weight)
}

function sameSet<T>(left: readonly T[], right: readonly T[]): boolean {
  if (left.length !== right.length) return false
  const members = new Set(right)
  return left.every((item) => members.has(item))
}
