// Which operations of a plan one command can do together.
import type { HostOp } from '../../core/host/host-state.ts'
import type { VirtualServerChange } from './ports.ts'
import type { TableRoute } from './routes/routes.ts'

/** Consecutive operations that one command can do together. */
export function bundles(ops: readonly HostOp[]): readonly (readonly HostOp[])[] {
  const result: HostOp[][] = []
  for (const op of ops) {
    const last = result.at(-1)
    if (last?.[0] !== undefined && sortOf(last[0]) === sortOf(op) && BUNDLED.has(op.kind)) last.push(op)
    else result.push([op])
  }
  return result
}

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

function sortOf(op: HostOp): string {
  return op.kind === 'removeVirtualServer' ? 'setVirtualServer' : op.kind
}

export function pick<K extends HostOp['kind']>(
  ops: readonly HostOp[],
  kind: K
): Extract<HostOp, { kind: K }>[] {
  return ops.filter((op): op is Extract<HostOp, { kind: K }> => op.kind === kind)
}

export function tableRoutes(ops: readonly HostOp[]): readonly TableRoute[] {
  return ops.flatMap((op): TableRoute[] => {
    if (op.kind === 'addRoute' || op.kind === 'removeRoute') return [{ table: 'tunnel', route: op.route }]
    if (op.kind === 'addVip' || op.kind === 'removeVip') return [{ table: 'vip', route: op.vip }]
    return []
  })
}

export function virtualServerChange(op: HostOp): VirtualServerChange[] {
  if (op.kind === 'setVirtualServer') return [{ want: op.virtualServer, have: op.before }]
  if (op.kind === 'removeVirtualServer') return [{ want: undefined, have: op.virtualServer }]
  return []
}
