// Groups the operations of a plan into bundles, so that one command carries out many of them: 1,000 routes are one
// `ip -batch`. src/io/host/host.ts applies one bundle after the other. The order of the plan is kept, because
// operations depend on earlier ones (a route needs its device).
import type { HostOp } from '../../core/host/host-state.ts'
import type { VirtualServerChange } from './ports.ts'
import { tableRoute, type TableRoute } from './routes/routes.ts'

/** Returns the operations in their order, cut where the next one needs another command. No bundle is empty. */
export function bundles(ops: readonly HostOp[]): readonly (readonly HostOp[])[] {
  const result: HostOp[][] = []
  for (const op of ops) {
    const last = result.at(-1)
    if (last?.[0] !== undefined && sortOf(last[0]) === sortOf(op) && BUNDLED.has(op.kind)) last.push(op)
    else result.push([op])
  }
  return result
}

// Kinds of operations that may share a command. Operations on the device and on the filter are not in the list, because
// each of them sets one whole value.
const BUNDLED: ReadonlySet<HostOp['kind']> = new Set([
  'setSysctl',
  'setPeer',
  'removePeer',
  'addRoute',
  'removeRoute',
  'addVip',
  'removeVip',
  'setVirtualServer',
  'removeVirtualServer'
])

/** Additions and removals of virtual servers share a bundle: a load balancer takes both in one transaction. */
function sortOf(op: HostOp): string {
  return op.kind === 'removeVirtualServer' ? 'setVirtualServer' : op.kind
}

/** Returns the operations of one kind, with the type of that kind. */
export function pick<K extends HostOp['kind']>(
  ops: readonly HostOp[],
  kind: K
): Extract<HostOp, { kind: K }>[] {
  return ops.filter((op): op is Extract<HostOp, { kind: K }> => op.kind === kind)
}

/**
 * Returns the routes of the operations that add or remove a route or a VIP. Other operations have none. The result does
 * not tell whether a route is added or removed.
 */
export function tableRoutes(ops: readonly HostOp[]): readonly TableRoute[] {
  return ops.flatMap((op): TableRoute[] => {
    if (op.kind === 'addRoute' || op.kind === 'removeRoute') return [tableRoute(op.route)]
    if (op.kind === 'addVip' || op.kind === 'removeVip') return [{ table: 'vip', route: op.vip }]
    return []
  })
}

/** Returns the change that an operation means for the load balancer; none for an operation of another part. */
export function virtualServerChange(op: HostOp): VirtualServerChange[] {
  if (op.kind === 'setVirtualServer') return [{ want: op.virtualServer, have: op.before }]
  if (op.kind === 'removeVirtualServer') return [{ want: undefined, have: op.virtualServer }]
  return []
}
