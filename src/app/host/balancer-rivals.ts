// Other programs that manage virtual servers of IPVS on this host, as a fault. kube-proxy in IPVS mode deletes every virtual server that
// is not its own and outside --ipvs-exclude-cidrs, at least every 30 s. Whether the exclusion is set is not to be seen from outside, so
// deeds count: the fault is a warning while there is such a program, an error when it has deleted servers of ours, and it is cleared
// when nothing was deleted for QUIET_MS.
import type { LinuxHost } from '../../io/host/host.ts'
import type { Rivals } from '../../io/host/ports.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { FaultText, Health } from '../observe/health.ts'

export const RIVAL = 'IPVS_RIVAL'

const LOOK_INTERVAL_MS = 5000
const LOOK_DEADLINE_MS = 10_000
// Twenty rounds of kube-proxy's, at its default of 30 s.
const QUIET_MS = 600_000

export interface BalancerRivalsOptions {
  readonly host: Pick<LinuxHost, 'rivals'> | undefined
  readonly health: Pick<Health, 'set' | 'clear'>
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs?: () => number
}

export class BalancerRivals {
  readonly #host: BalancerRivalsOptions['host']
  readonly #health: BalancerRivalsOptions['health']
  readonly #nowMs: () => number
  #nextMs = -Infinity
  /** Deleted servers at the last look, and when the last fault was cleared. */
  #seen = 0
  #settled = 0
  /** When the program was first seen, or last deleted something. */
  #sinceMs: number | undefined

  constructor(options: BalancerRivalsOptions) {
    this.#host = options.host
    this.#health = options.health
    this.#nowMs = options.nowMs ?? monotonicMs
  }

  /** Called often; looks at the kernel every LOOK_INTERVAL_MS. What cannot be read is a fault of the pass that reads it, too. */
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

  #judge(rivals: Rivals): FaultText | undefined {
    const nowMs = this.#nowMs()
    const isPresent = rivals.kubeProxy || rivals.foreign > 0
    if (rivals.lost > this.#seen || (isPresent && this.#sinceMs === undefined)) this.#sinceMs = nowMs
    this.#seen = rivals.lost
    if (this.#sinceMs === undefined) return undefined
    const deleted = rivals.lost - this.#settled
    if (nowMs - this.#sinceMs < QUIET_MS && (isPresent || deleted > 0)) return faultOf(rivals, deleted)
    this.#settled = rivals.lost
    // A program that is here and quiet is a fault again only when it deletes something, or when it has gone and comes back.
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
