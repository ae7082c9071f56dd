// This file describes an operation besides its effect: its identity, the part of the host it belongs to, what it
// needs, and the order in which a pass does its operations.
// Invariants
//   1. The identity of an operation does not depend on the values it sets, so that a later attempt is known as the
//      same step.
//   2. Slices keep the order of the plan within a cluster, and every peer gets its prefixes before any peer is
//      removed.
import { cidrContains } from '../model/cidr.ts'
import type { HostOp, HostPart, HostState, Route, Vip } from './host-state.ts'
import { routeKey, virtualServerKey } from './normalize.ts'

/** Returns the identity of an operation, such as "addRoute 10.1.0.0/16". At most one operation of a plan has it. */
export function opKey(op: HostOp): string {
  switch (op.kind) {
    case 'setSysctl':
      return `${op.kind} ${op.sysctl.name}`
    case 'setPeer':
      return `${op.kind} ${op.peer.publicKey}`
    case 'removePeer':
      return `${op.kind} ${op.publicKey}`
    case 'addRoute':
    case 'removeRoute':
      return `${op.kind} ${routeKey(op.route)}`
    case 'addVip':
    case 'removeVip':
      return `${op.kind} ${op.vip.destination}`
    case 'setVirtualServer':
    case 'removeVirtualServer':
      return `${op.kind} ${virtualServerKey(op.virtualServer)}`
    case 'setTunnel':
    case 'removeTunnel':
    case 'setFilter':
    case 'removeFilter':
      return op.kind
    default:
      return op satisfies never
  }
}

const PARTS: { readonly [K in HostOp['kind']]: HostPart } = {
  setTunnel: 'tunnel',
  removeTunnel: 'tunnel',
  setPeer: 'tunnel',
  removePeer: 'tunnel',
  addRoute: 'routes',
  removeRoute: 'routes',
  addVip: 'routes',
  removeVip: 'routes',
  setVirtualServer: 'virtualServers',
  removeVirtualServer: 'virtualServers',
  setFilter: 'filter',
  removeFilter: 'filter',
  setSysctl: 'sysctls'
}

/** Returns the part of the host that an operation changes. */
export function partOf(op: HostOp): HostPart {
  return PARTS[op.kind]
}

const FIELDS: { readonly [Field in keyof Required<HostState>]: HostPart } = {
  tunnel: 'tunnel',
  peers: 'tunnel',
  routes: 'routes',
  vips: 'routes',
  virtualServers: 'virtualServers',
  filter: 'filter',
  sysctls: 'sysctls'
}

/** Returns the part of the host that a field of HostState belongs to. */
export function partOfField(field: keyof HostState): HostPart {
  return FIELDS[field]
}

/** What is missing on the host, so that other operations must wait for it. */
export interface Lacking {
  /** The tunnel device does not exist, or exists and cannot be used. */
  readonly tunnel: boolean
  /** The host has no packet filter of ours. */
  readonly filter: boolean
  /** Service prefixes that the existing filter guards. undefined: the filter guards all that are wanted. */
  readonly guards: ReadonlySet<string> | undefined
}

/**
 * Returns what is missing. `failed` tells whether the operation of a kind has failed or waits for its next attempt,
 * or whether its part cannot be read.
 */
export function lacking(
  { want, have }: { readonly want: HostState; readonly have: HostState },
  failed: (kind: 'setTunnel' | 'setFilter') => boolean
): Lacking {
  const tunnelFailed = want.tunnel !== undefined && failed('setTunnel')
  const filterFailed = want.filter !== undefined && failed('setFilter')
  return {
    tunnel: tunnelFailed && (have.tunnel === undefined || have.tunnel.mtu === UNUSABLE_MTU),
    filter: filterFailed && have.filter === undefined,
    guards: filterFailed ? new Set(have.filter?.guardedVips ?? []) : undefined
  }
}

/** MTU (bytes) of an observed tunnel device that is down or lacks our mark: the device exists but cannot be used. */
export const UNUSABLE_MTU = 0

/** MTU of an observed tunnel device that lacks an address: it carries traffic, but is not as desired. No device has it. */
export const INCOMPLETE_MTU = 1

/**
 * Returns whether an operation must wait for something that could not be made. Traffic from the tunnel is accepted
 * only behind the filter, and a service address is made local only where the filter keeps it from processes of this
 * host. Removals never wait.
 */
export function mustWait(op: HostOp, lacks: Lacking, device: string | undefined): boolean {
  if (op.kind === 'setPeer') return lacks.tunnel || lacks.filter
  // Exceptions keep traffic out of the tunnel and need neither tunnel nor filter.
  if (op.kind === 'addRoute') return op.route.kind === undefined && (lacks.tunnel || lacks.filter)
  if (op.kind === 'addVip')
    return op.vip.kind === undefined && lacks.guards !== undefined && !lacks.guards.has(op.vip.destination)
  return op.kind === 'setSysctl' && lacks.tunnel && device !== undefined && op.sysctl.name.includes(device)
}

/**
 * Returns whether an operation would route a network of this host into the tunnel. That happens when the prefix is
 * added although the exception (`throw`) inside it was refused, and when the exception is removed although the
 * removal of the prefix around it was refused.
 */
export function wouldTakeOwnNetwork(op: HostOp, refused: readonly HostOp[]): boolean {
  const route = routeOf(op)
  if (route === undefined) return false
  return refused.some((other) => {
    const failed = routeOf(other)
    if (failed === undefined || other.kind !== op.kind) return false
    const isRemoval = op.kind === 'removeRoute' || op.kind === 'removeVip'
    const [outer, inner] = isRemoval ? [failed, route] : [route, failed]
    return (
      inner.kind === 'throw' && outer.kind !== 'throw' && cidrContains(outer.destination, inner.destination)
    )
  })
}

function routeOf(op: HostOp): Route | Vip | undefined {
  return 'route' in op ? op.route : 'vip' in op ? op.vip : undefined
}

interface Slice<Owner extends string> {
  /** undefined: what all clusters share, and clusters that have left. */
  readonly cluster: Owner | undefined
  readonly ops: readonly HostOp[]
}

// A small change may wait as long as one bundle takes. For this many real servers that is 0.1 s with nftables and 2 s
// with IPVS.
const SLICE_WEIGHT_MAX = 2_000

/**
 * Cuts the operations of a plan into slices, so that a large cluster does not delay a small one. The order is: first
 * what all clusters share (device, filter, sysctls), then the exceptions that keep this host's own networks out of
 * the tunnel, then peers and routes, then each cluster's virtual servers, service prefixes and removals. The cluster
 * with the least work comes first.
 */
export function slices<Owner extends string>(
  ops: readonly HostOp[],
  clusterOf: (op: HostOp) => Owner | undefined
): readonly Slice<Owner>[] {
  // A removed device takes its peers and routes with it, so the plan's own order is kept.
  if (ops.some(({ kind }) => kind === 'removeTunnel')) return [{ cluster: undefined, ops }]
  const of = (stage: Stage) => ops.filter((op) => stageOf(op) === stage)
  const groups = [...Map.groupBy(of('cluster'), clusterOf)].map(([cluster, members]) => ({
    cluster,
    members,
    weight: members.reduce((sum, op) => sum + weightOf(op), 0)
  }))
  groups.sort((a, b) => a.weight - b.weight)
  return [
    { cluster: undefined, ops: of('shared') },
    { cluster: undefined, ops: of('exceptions') },
    ...chunks(of('paths')).map((chunk) => ({ cluster: undefined, ops: chunk })),
    ...groups.flatMap(({ cluster, members }) => chunks(members).map((chunk) => ({ cluster, ops: chunk }))),
    { cluster: undefined, ops: of('exceptionsGone') },
    { cluster: undefined, ops: of('last') }
  ].filter((slice) => slice.ops.length > 0)
}

type Stage = 'shared' | 'exceptions' | 'paths' | 'cluster' | 'exceptionsGone' | 'last'

/** Returns the stage of a pass in which an operation is done. */
export function stageOf(op: HostOp): Stage {
  if (op.kind === 'setTunnel' || op.kind === 'setFilter' || op.kind === 'setSysctl') return 'shared'
  if (op.kind === 'addRoute') return op.route.kind === 'throw' ? 'exceptions' : 'paths'
  if (op.kind === 'addVip' && op.vip.kind === 'throw') return 'exceptions'
  if (op.kind === 'setPeer') return 'paths'
  if (routeOf(op)?.kind === 'throw') return 'exceptionsGone'
  return op.kind === 'removeFilter' ? 'last' : 'cluster'
}

function chunks(ops: readonly HostOp[]): readonly (readonly HostOp[])[] {
  const result: HostOp[][] = []
  let weight = Infinity
  for (const op of ops) {
    weight += weightOf(op)
    if (weight > SLICE_WEIGHT_MAX) {
      result.push([])
      weight = weightOf(op)
    }
    result.at(-1)?.push(op)
  }
  return result
}

function weightOf(op: HostOp): number {
  if (op.kind === 'setVirtualServer')
    return 1 + op.virtualServer.realServers.length + (op.before?.realServers.length ?? 0)
  return op.kind === 'removeVirtualServer' ? 1 + op.virtualServer.realServers.length : 1
}
