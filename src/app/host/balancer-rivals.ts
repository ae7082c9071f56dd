// Reports other programs that manage virtual servers of IPVS on this host, as the fault IPVS_RIVAL
// (docs/decisions/0032). kube-proxy in IPVS mode deletes every virtual server that is not its own and lies outside
// --ipvs-exclude-cidrs, at least every 30 s. Whether that exclusion is set cannot be seen from outside, so the fault
// follows what the program does: it is a warning while there is such a program, an error when the program has deleted
// virtual servers of this agent, and it is cleared when nothing was deleted for QUIET_MS.
import type { LinuxHost } from '../../io/host/host.ts'
import type { Rivals } from '../../io/host/ports.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { FaultText, Health } from '../observe/health.ts'

export const RIVAL = 'IPVS_RIVAL'

// Milliseconds between two readings of the kernel. A reading starts two tools, so it is not made every second. It need
// not be fast, because the reconciler sets deleted virtual servers again.
const LOOK_INTERVAL_MS = 5000
const LOOK_DEADLINE_MS = 10_000
// Milliseconds (10 min) without a deletion after which the fault is cleared: 20 sync periods of kube-proxy at its
// default of 30 s.
const QUIET_MS = 600_000

/** The host that is read, and the registry in which the fault is set. */
interface BalancerRivalsOptions {
  /** undefined: there is no data plane on this machine, so nothing is read. */
  readonly host: Pick<LinuxHost, 'rivals'> | undefined
  readonly health: Pick<Health, 'set' | 'clear'>
  /** Monotonic milliseconds. Default: the clock of the process. */
  readonly nowMs?: () => number
}

/** The watch over other programs that write the tables of IPVS. */
export class BalancerRivals {
  readonly #host: BalancerRivalsOptions['host']
  readonly #health: BalancerRivalsOptions['health']
  readonly #nowMs: () => number
  /** Monotonic milliseconds from which the next reading may be made. */
  #nextMs = -Infinity
  /** Number of virtual servers that were deleted between the start of the host and the last reading. */
  #seen = 0
  /** The value of `#seen` when the last fault was cleared: the message counts only later deletions. */
  #settled = 0
  /** Monotonic time when the program was first seen, or last deleted something; undefined: there is none. */
  #sinceMs: number | undefined

  constructor(options: BalancerRivalsOptions) {
    this.#host = options.host
    this.#health = options.health
    this.#nowMs = options.nowMs ?? monotonicMs
  }

  /**
   * Called once a second; reads the kernel at most every LOOK_INTERVAL_MS. When that fails, the fault stays as it is:
   * the pass that reads the virtual servers reports the error.
   */
  async look(stopping: AbortSignal): Promise<void> {
    if (this.#host === undefined || this.#nowMs() < this.#nextMs) return
    this.#nextMs = this.#nowMs() + LOOK_INTERVAL_MS
    const signal = AbortSignal.any([stopping, AbortSignal.timeout(LOOK_DEADLINE_MS)])
    const rivals = await this.#host.rivals(signal).catch(() => undefined)
    if (rivals === undefined || stopping.aborted) return
    const fault = this.#judge(rivals)
    if (fault === undefined) this.#health.clear(RIVAL)
    else this.#health.set(RIVAL, fault)
  }

  /** Returns the present fault; undefined: there is no program, or it has been quiet for QUIET_MS. */
  #judge(rivals: Rivals): FaultText | undefined {
    const nowMs = this.#nowMs()
    const isPresent = rivals.kubeProxy || rivals.foreign > 0
    if (rivals.lost > this.#seen || (isPresent && this.#sinceMs === undefined)) this.#sinceMs = nowMs
    this.#seen = rivals.lost
    if (this.#sinceMs === undefined) return undefined
    const deleted = rivals.lost - this.#settled
    if (nowMs - this.#sinceMs < QUIET_MS && (isPresent || deleted > 0)) return faultOf(rivals, deleted)
    this.#settled = rivals.lost
    // If the program is still there, it becomes a fault again only when it deletes something. If it has gone, it
    // becomes a fault again when it comes back.
    if (!isPresent) this.#sinceMs = undefined
    return undefined
  }
}

function faultOf({ kubeProxy, foreign, prefixes }: Rivals, deleted: number): FaultText {
  const who = kubeProxy
    ? 'kube-proxy runs in IPVS mode on this host (device kube-ipvs0) and deletes virtual servers that are not its own'
    : `another program manages virtual servers of IPVS on this host (${foreign} of them)`
  const deed = deleted === 0 ? '' : `; ${deleted} of this agent's were deleted and have been set again`
  const cidrs = prefixes.length === 0 ? '<service CIDRs of the other clusters>' : prefixes.join(',')
  return {
    severity: deleted === 0 ? 'warning' : 'error',
    message: `${who}${deed}`,
    fix: `start kube-proxy with --ipvs-exclude-cidrs=${cidrs} (ipvs.excludeCIDRs in its configuration), or set load-balancer to nftables`
  }
}
