// Why this host lacks something that it should have, for `meshctl routes` and `meshctl why`.
import type { HostOp } from '../../core/host/host-state.ts'
import { virtualServerKey } from '../../core/host/normalize.ts'
import { sentence } from '../observe/errors.ts'
import type { Session } from '../session/session.ts'

/**
 * `object`: a prefix, or the key of a virtual server. Returns the error of the operation that adds it; else the error of
 * the tunnel or the filter, which everything else needs; else that of a part of the host that could not be read.
 */
export function whyMissing({ reconciler }: Pick<Session, 'reconciler'>, object: string): string {
  const { steps, parts } = reconciler?.failures ?? { steps: [], parts: [] }
  const own = steps.find(({ op }) => objectOf(op) === object)
  const basis = steps.find(({ op }) => op.kind === 'setTunnel' || op.kind === 'setFilter')
  const error = (own ?? basis ?? parts[0])?.error
  return error === undefined ? 'the pass that sets it is under way' : sentence(error)
}

/** What an operation adds to the host; undefined for other operations. */
function objectOf(op: HostOp): string | undefined {
  if (op.kind === 'addRoute') return op.route.destination
  if (op.kind === 'addVip') return op.vip.destination
  return op.kind === 'setVirtualServer' ? virtualServerKey(op.virtualServer) : undefined
}
