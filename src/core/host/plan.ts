// This file plans the operations that turn the host as it is (`have`) into the host that is wanted (`want`).
// Laws (tested as properties)
//   1. plan(x, x) is empty.
//   2. applyOps(have, plan(want, have)) is want. Two things that no operation can undo are left alone: a sysctl
//      that is no longer wanted (cleanup restores it), and a peer address where none is wanted (WireGuard cannot
//      unset one).
//   3. A plan that is interrupted anywhere converges with the next pass.
//   4. Additions come before removals (make before break): link → filter → sysctls → peers → routes → virtual
//      servers → VIPs, then the removals in reverse order. A prefix that moves from one peer to another always has
//      an owner.
//   5. Every field of HostState and of its values is compared: the tables STEPS and SAME_… have a row for each
//      field of their type, so a field without a comparison does not compile.
import type {
  Filter,
  HostOp,
  HostPart,
  HostState,
  RealServer,
  Route,
  Sysctl,
  Tunnel,
  VirtualServer,
  Vip,
  WireguardPeer
} from './host-state.ts'
import { keepable } from './keepable.ts'
import { partOfField } from './host-ops.ts'
import { realServerKey, routeKey, sortedPrefixes } from './normalize.ts'
import { unionHost } from './union.ts'
import type { Cidr, WireguardKey } from '../model/values.ts'
import { differenceOf, isSameKey, type ServerPair } from './server-list.ts'

/** What a plan keeps although it is not wanted: what lies in these prefixes, or all. */
export type Keeps = 'all' | readonly Cidr[]

interface PlanOptions {
  /**
   * Prefixes of clusters of which records may be missing: in these, the plan only adds, and never deletes or narrows.
   * 'all': nowhere. The default is none.
   */
  readonly keeps?: Keeps
  /** Parts of the host that could not be read. The plan has no operations for them. */
  readonly skip?: ReadonlySet<HostPart>
}

/**
 * Returns the operations, in order, that turn `have` into `want`. The cost for virtual servers is that of the ones
 * that differ, where `want` was made from `have` by edits.
 */
export function plan(want: HostState, have: HostState, options: PlanOptions = {}): readonly HostOp[] {
  const { keeps = [] } = options
  const whole =
    keeps === 'all'
      ? unionHost(want, have)
      : keeps.length > 0
        ? unionHost(want, keepable(have, want, keeps))
        : want
  const goal = withoutParts(whole, have, options.skip)
  if (goal.tunnel && have.tunnel && goal.tunnel.device !== have.tunnel.device) return rebuild(goal, have)
  const steps = ORDER.map((field) => STEPS[field](goal, have))
  return [
    ...steps.flatMap(({ additions }) => additions),
    ...steps.toReversed().flatMap(({ removals }) => removals)
  ]
}

/** Returns `want` with the fields of the skipped parts as the host has them, so that they need no operations. */
function withoutParts(want: HostState, have: HostState, skip: PlanOptions['skip']): HostState {
  if (skip === undefined || skip.size === 0) return want
  const kept = ORDER.filter((field) => skip.has(partOfField(field))).map((field) => [field, have[field]])
  return { ...want, ...(Object.fromEntries(kept) as Partial<HostState>) }
}

interface Steps {
  readonly additions: readonly HostOp[]
  readonly removals: readonly HostOp[]
}

/** Additions go in this order, removals in reverse. */
const ORDER = [
  'tunnel',
  'filter',
  'sysctls',
  'peers',
  'routes',
  'virtualServers',
  'vips'
] as const satisfies readonly (keyof HostState)[]

const STEPS: { readonly [Field in keyof Required<HostState>]: (want: HostState, have: HostState) => Steps } =
  {
    tunnel: ({ tunnel: want }, { tunnel: have }) => ({
      additions:
        want === undefined || (have !== undefined && same(SAME_TUNNEL, want, have))
          ? []
          : [{ kind: 'setTunnel', tunnel: want }],
      removals: have && !want ? [{ kind: 'removeTunnel' }] : []
    }),
    filter: ({ filter: want }, { filter: have }) => ({
      additions:
        want === undefined || (have !== undefined && same(SAME_FILTER, want, have))
          ? []
          : [{ kind: 'setFilter', filter: want }],
      removals: have && !want ? [{ kind: 'removeFilter' }] : []
    }),
    sysctls: (want, have) => ({ additions: sysctlOps(want.sysctls, have.sysctls), removals: [] }),
    peers: (want, have) => ({
      additions: peerOps(want.peers, have.peers),
      removals: peerRemovals(want.peers, have.peers)
    }),
    routes: (want, have) => ({
      additions: exceptionsFirst(added(SAME_ROUTE, want.routes, have.routes)).map((route) => ({
        kind: 'addRoute',
        route
      })),
      removals: exceptionsLast(vanished(want.routes, have.routes)).map((route) => ({
        kind: 'removeRoute',
        route
      }))
    }),
    virtualServers: (want, have) => {
      const { pairs, gone } = differenceOf(want.virtualServers, have.virtualServers)
      return {
        additions: virtualServerOps(pairs),
        removals: gone.map((virtualServer) => ({ kind: 'removeVirtualServer', virtualServer }))
      }
    },
    vips: (want, have) => ({
      additions: exceptionsFirst(added(SAME_VIP, want.vips, have.vips)).map((vip) => ({
        kind: 'addVip',
        vip
      })),
      removals: exceptionsLast(vanished(want.vips, have.vips)).map((vip) => ({ kind: 'removeVip', vip }))
    })
  }

/** A comparison has one row for each field of its type. */
type Comparison<T> = { readonly [Field in keyof Required<T>]: (want: T[Field], have: T[Field]) => boolean }

function same<T extends object>(comparison: Comparison<T>, want: T, have: T): boolean {
  for (const field in comparison) if (!comparison[field](want[field], have[field])) return false
  return true
}

const SAME_TUNNEL: Comparison<Tunnel> = {
  device: Object.is,
  listenPort: Object.is,
  mtu: Object.is,
  publicKey: Object.is
}

const SAME_FILTER: Comparison<Filter> = {
  remoteSources: sameSet,
  localDestinations: sameSet,
  probePort: Object.is,
  mtu: Object.is,
  guardedVips: sameOptionalSet,
  ownNetworks: sameOptionalSet,
  hostEndpoints: sameOptionalSet,
  ownSources: sameOptionalSet,
  checkedDevices: sameOptionalSet,
  overlayDevices: sameOptionalSet,
  containerBridges: sameOptionalSet,
  reach: Object.is,
  reachable: sameOptionalSet,
  reachableFrom: sameOptionalSet,
  barredSources: sameOptionalSet,
  nodeSources: sameOptionalSet,
  translatedPods: sameOptionalSet
}

const SAME_PEER: Comparison<WireguardPeer> = {
  publicKey: Object.is,
  // An address cannot be unset: where none is wanted, any address is accepted.
  peerAddress: (want, have) => want === undefined || want === have,
  allowedIps: sameSet,
  keepaliveSeconds: Object.is
}

const SAME_SYSCTL: Comparison<Sysctl> = { name: Object.is, value: Object.is }
const SAME_ROUTE: Comparison<Route> = {
  destination: Object.is,
  source: Object.is,
  kind: Object.is,
  mtu: Object.is,
  inner: Object.is
}
const SAME_VIP: Comparison<Vip> = { destination: Object.is, source: Object.is, kind: Object.is }

// A host may have 100,000 real servers, for which calls through a table take 50 ms. The value `true` does not compile
// once the type has a field that sameRealServer leaves out.
const EACH_FIELD_OF_REAL_SERVER: [Exclude<keyof RealServer, 'ip' | 'port' | 'weight'>] extends [never]
  ? true
  : never = true

function sameRealServer(want: RealServer, have: RealServer): boolean {
  const same = want.ip === have.ip && want.port === have.port && want.weight === have.weight
  return same && EACH_FIELD_OF_REAL_SERVER
}

const EACH_FIELD_OF_VIRTUAL_SERVER: [
  Exclude<keyof VirtualServer, 'vip' | 'protocol' | 'port' | 'scheduler' | 'affinitySeconds' | 'realServers'>
] extends [never]
  ? true
  : never = true

/** Returns whether two virtual servers are equal in each field. The order of real servers does not matter. */
export function sameVirtualServer(want: VirtualServer, have: VirtualServer): boolean {
  if (want === have) return true
  const same =
    isSameKey(want, have) &&
    want.scheduler === have.scheduler &&
    want.affinitySeconds === have.affinitySeconds &&
    sameRealServers(want.realServers, have.realServers)
  return same && EACH_FIELD_OF_VIRTUAL_SERVER
}

function sysctlOps(want: readonly Sysctl[], have: readonly Sysctl[]): readonly HostOp[] {
  const before = new Map(have.map((sysctl) => [sysctl.name, sysctl]))
  return want
    .filter((sysctl) => {
      const old = before.get(sysctl.name)
      return old === undefined || !same(SAME_SYSCTL, sysctl, old)
    })
    .map((sysctl) => ({ kind: 'setSysctl', sysctl }))
}

/**
 * WireGuard moves a prefix in one step: the peer that gets it takes it from the earlier owner. So a peer that gives
 * prefixes away keeps them until the new owner is set, even where two peers swap.
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
    if (old === undefined || !same(SAME_PEER, next, { ...old, allowedIps: held }))
      ops.push({ kind: 'setPeer', peer: next })
    for (const cidr of peer.allowedIps) owners.set(cidr, peer.publicKey)
    done.add(peer.publicKey)
  }
  return ops
}

/** Returns whether a prefix belongs to another peer in the end, and that peer has not been set yet. */
function isAwaited(
  heir: WireguardKey | undefined,
  self: WireguardKey,
  done: ReadonlySet<WireguardKey>
): boolean {
  return heir !== undefined && heir !== self && !done.has(heir)
}

function peerRemovals(want: readonly WireguardPeer[], have: readonly WireguardPeer[]): readonly HostOp[] {
  const still = new Set(want.map(({ publicKey }) => publicKey))
  return have
    .filter(({ publicKey }) => !still.has(publicKey))
    .map(({ publicKey }) => ({ kind: 'removePeer', publicKey }))
}

function virtualServerOps(pairs: readonly ServerPair[]): readonly HostOp[] {
  return pairs
    .filter(({ want, have }) => have === undefined || !sameVirtualServer(want, have))
    .map(({ want, have }) => ({ kind: 'setVirtualServer', virtualServer: want, before: have }))
}

interface Destined {
  readonly destination: Cidr
  readonly source: string | undefined
  readonly kind?: 'throw' | 'unreachable'
  readonly inner?: true
}

function added<T extends Destined>(
  comparison: Comparison<T>,
  want: readonly T[],
  have: readonly T[]
): readonly T[] {
  const old = new Map(have.map((item) => [routeKey(item), item]))
  return want.filter((item) => {
    const before = old.get(routeKey(item))
    return before === undefined || !same(comparison, item, before)
  })
}

/**
 * Exceptions are added first, so that no address of the host's own networks is routed into the tunnel, not even
 * between two operations.
 */
function exceptionsFirst<T extends Destined>(routes: readonly T[]): readonly T[] {
  return routes.toSorted((a, b) => Number(b.kind === 'throw') - Number(a.kind === 'throw'))
}

function exceptionsLast<T extends Destined>(routes: readonly T[]): readonly T[] {
  return exceptionsFirst(routes).toReversed()
}

function vanished<T extends Destined>(want: readonly T[], have: readonly T[]): readonly T[] {
  const still = new Set(want.map(routeKey))
  return have.filter((item) => !still.has(routeKey(item)))
}

/** A device cannot be renamed with its routes: everything on it is removed, then added again. */
function rebuild(want: HostState, have: HostState): readonly HostOp[] {
  const bare: HostState = { ...have, tunnel: undefined, peers: [], routes: [] }
  return [...plan(bare, have), ...plan(want, bare)]
}

/**
 * The two lists have the same order as a rule, and then the comparison allocates nothing: a host may have 100,000
 * real servers.
 */
function sameRealServers(left: readonly RealServer[], right: readonly RealServer[]): boolean {
  if (left === right) return true
  if (left.length !== right.length) return false
  const aligned = left.every((server, index) => {
    const other = right[index]
    return other !== undefined && sameRealServer(server, other)
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

/** A list that is left out is empty. */
function sameOptionalSet<T>(left: readonly T[] | undefined, right: readonly T[] | undefined): boolean {
  return sameSet(left ?? [], right ?? [])
}
