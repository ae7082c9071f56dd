// Follows what the packet filter drops of packets that did not come out of the tunnel (io/host/filter/underlay.ts): the
// counts for `meshctl status` and the metrics, and a fault for each reason and device while it goes on.
import type { LinuxHost } from '../../io/host/host.ts'
import { DROP_REASONS, type Dropped, type DroppedSender, type DropReason } from '../../io/host/ports.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { FaultText, Health } from '../observe/health.ts'
import type { Metrics } from '../observe/metrics.ts'

// Milliseconds between two readings: one process of nft for the counters, and two for each reason that has dropped
// packets since the filter was set.
const LOOK_MS = 5_000
const LOOK_DEADLINE_MS = 5_000

const CODES: Readonly<Record<DropReason, 'SERVICE_ASKED_FROM_OUTSIDE' | 'SOURCE_FORGED'>> = {
  service: 'SERVICE_ASKED_FROM_OUTSIDE',
  remote: 'SOURCE_FORGED',
  local: 'SOURCE_FORGED'
}

/** The filter that is read, and where the results go. */
interface DroppedPacketsOptions {
  /** undefined: no data plane, so nothing is dropped. */
  readonly host: Pick<LinuxHost, 'dropped'> | undefined
  readonly health: Health
  readonly metrics: Pick<Metrics, 'droppedPackets'>
  /** Monotonic milliseconds. Default: monotonicMs. */
  readonly nowMs?: () => number
}

/** The watch over dropped packets during one session. */
export class DroppedPackets {
  readonly #options: DroppedPacketsOptions
  readonly #totals: Record<DropReason, number> = { service: 0, remote: 0, local: 0 }
  /** The counters at the last reading. They begin again at 0 when the filter is set. */
  #read: Readonly<Record<DropReason, number>> = { service: 0, remote: 0, local: 0 }
  /**
   * The sender that the fault of each reason and device names. It stays the same while the fault lasts, because each
   * new text is a line of the log, and a sender may forge a new address for each packet.
   */
  readonly #named = new Map<string, DroppedSender>()
  #lookedMs = -Infinity

  constructor(options: DroppedPacketsOptions) {
    this.#options = options
  }

  /** Packets that were dropped since the start of the session, by reason. */
  get totals(): Readonly<Record<DropReason, number>> {
    return this.#totals
  }

  /** Called once a second; reads every LOOK_MS. When the filter cannot be read, the results stay as they are. */
  async look(signal: AbortSignal): Promise<void> {
    const { host } = this.#options
    const nowMs = (this.#options.nowMs ?? monotonicMs)()
    if (host === undefined || nowMs - this.#lookedMs < LOOK_MS) return
    this.#lookedMs = nowMs
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(LOOK_DEADLINE_MS)])
    const dropped = await host.dropped(deadline).catch(() => undefined)
    if (dropped === undefined || signal.aborted) return
    this.#count(dropped)
    this.#tell(dropped.senders)
  }

  /** Clears the faults of this file. */
  stop(): void {
    for (const code of new Set(Object.values(CODES))) this.#options.health.replace(code, [])
  }

  #count({ packets }: Dropped): void {
    for (const reason of DROP_REASONS) {
      const before = this.#read[reason]
      const more = packets[reason] >= before ? packets[reason] - before : packets[reason]
      this.#totals[reason] += more
      this.#options.metrics.droppedPackets.inc({ reason }, more)
    }
    this.#read = packets
  }

  #tell(senders: readonly DroppedSender[]): void {
    const first = new Map<string, DroppedSender>()
    for (const sender of senders) {
      const key = `${sender.reason} ${sender.device}`
      if (!first.has(key)) first.set(key, this.#named.get(key) ?? sender)
    }
    this.#named.clear()
    for (const [key, sender] of first) this.#named.set(key, sender)
    for (const code of new Set(Object.values(CODES)))
      this.#options.health.replace(
        code,
        [...first.values()].filter(({ reason }) => CODES[reason] === code).map(faultOf)
      )
  }
}

function faultOf({ reason, source, device }: DroppedSender): FaultText & { readonly subject: string } {
  const seen = { subject: `${reason} ${device}`, severity: 'warning' as const }
  switch (reason) {
    case 'service':
      return {
        ...seen,
        message: `a machine on ${device} (${source}) sends packets to service addresses of the mesh; they are dropped, because service addresses are for the pods of this cluster and this host`,
        fix: `if ${source} shall use services of the mesh, run an agent there, or give it an address inside the pod prefixes`
      }
    case 'remote':
      return {
        ...seen,
        message: `packets that came in on ${device} have the source of a pod of another cluster (${source}) and did not come out of the tunnel; they are dropped`,
        fix: `find the machine on ${device} that sends them: tcpdump -e -n -i ${device} src host ${source}`
      }
    case 'local':
      return {
        ...seen,
        message: `packets that came in on ${device} have the source of a pod of this cluster (${source}), but the route to that pod does not lead to ${device}; they are dropped`,
        fix: `find the sender: tcpdump -e -n -i ${device} src host ${source}; if it is a node of this cluster that sends for its pods, let \`ip route get ${source}\` on this host lead to ${device}`
      }
    default:
      return reason satisfies never
  }
}
