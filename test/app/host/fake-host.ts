// A host that is a value, and that can be broken operation by operation and part by part.
import type { Host, HostOp, HostPart, HostState, Look, OpFailure } from '../../../src/core/host/host-state.ts'
import { partOf, partOfField } from '../../../src/core/host/host-ops.ts'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import { applyOps } from '../../../src/core/host/model-host.ts'

export class FakeHost implements Host {
  readonly loadBalancer = 'nftables'
  state: HostState = EMPTY_HOST
  /** The error of an operation that this host refuses. */
  refuses: (op: HostOp) => Error | undefined = () => undefined
  /** Parts whose tool hangs. */
  readonly hanging = new Map<HostPart, Error>()
  readonly looks: (readonly HostPart[])[] = []
  readonly applied: HostOp[][] = []

  start = async (): Promise<void> => undefined
  stop = async (): Promise<void> => undefined
  cleanup = async (): Promise<void> => undefined
  peerStats = async () => []
  describe = () => []

  /** How often the host was read whole. */
  get observed(): number {
    return this.looks.filter((parts) => parts.length === 5).length
  }

  async look(parts: readonly HostPart[]): Promise<Look> {
    this.looks.push(parts)
    const readable = new Set(parts.filter((part) => !this.hanging.has(part)))
    const fields = Object.entries(this.state).filter(([field]) =>
      readable.has(partOfField(field as keyof HostState))
    )
    return {
      found: Object.fromEntries(fields),
      failures: parts.flatMap((part) => {
        const error = this.hanging.get(part)
        return error === undefined ? [] : [{ part, error }]
      })
    }
  }

  async observe(): Promise<HostState> {
    return this.state
  }

  async apply(ops: readonly HostOp[]): Promise<readonly OpFailure[]> {
    const failures = ops.flatMap((op): OpFailure[] => {
      const hanging = this.hanging.get(partOf(op))
      if (hanging !== undefined) return [{ op, error: hanging, scope: 'part' }]
      const error = this.refuses(op)
      return error === undefined ? [] : [{ op, error, scope: 'operation' }]
    })
    const failed = new Set(failures.map(({ op }) => op))
    const done = ops.filter((op) => !failed.has(op))
    if (done.length > 0) this.applied.push(done)
    this.state = applyOps(this.state, done)
    return failures
  }
}
