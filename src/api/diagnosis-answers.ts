// The answers of `meshctl why`, `ping` and `doctor`, under the rules of answers.ts.
import type { Answer } from './answers.ts'

/**
 * The answer of GET /v1/why?target=web.shop.svc.cluster.east:80: the way of a connection, stop by stop. `stops` are those
 * before the ways part, and `ways` has one entry for each address of the name.
 */
export interface WhyAnswer extends Answer {
  /** `works`: no stop is a fault. `fails`: every way ends at one. `partly`: some ways do. `outside`: it is not of the mesh. */
  readonly verdict: 'works' | 'partly' | 'fails' | 'outside'
  readonly stops: readonly StopRow[]
  readonly ways: readonly { readonly address: string; readonly stops: readonly StopRow[] }[]
}

/** What was found at one stop of a connection. */
export interface StopRow {
  /** `name`, `source`, `host`, `prefix`, `service`, `port`, `endpoints`, `balancer`, `tunnel`, `route`, `kernel` or `connection`. */
  readonly stop: string
  /** `ok`: the connection passes. `note`: it passes, and an operator should know more. `fault`: it ends here. */
  readonly state: 'ok' | 'note' | 'fault'
  readonly text: string
  readonly fix?: string
}

/** The answer of GET /v1/ping?cluster=east: packets through the tunnel to each gateway of a cluster. */
export interface PingAnswer extends Answer {
  /** `answered`: every packet came back. `lossy`: some did. `silent`: none did, or none could be sent. */
  readonly verdict: 'answered' | 'lossy' | 'silent'
  readonly gateways: readonly PingRow[]
}

/** What came back from one gateway. Times are milliseconds, rounded to 0.001. */
export interface PingRow {
  readonly node: string
  readonly peerId: string
  /** These three as in PeerRow. */
  readonly path: string
  readonly pathReason?: string
  readonly endpoint?: string
  /** The tunnel address to which the packets went. */
  readonly address?: string
  /** The state of the tunnel when the last packet had been waited for. */
  readonly tunnel: 'up' | 'connecting' | 'down'
  /** Why the tunnel is not up, or why packets could not be sent or were refused. */
  readonly reason?: string
  /** What the operator does about a tunnel that is not up. */
  readonly fix?: string
  readonly sent: number
  readonly received: number
  /** Packets that the kernel behind the tunnel refused, since no meshd listens there: the tunnel works. */
  readonly refused: number
  /** From 0 to 100, rounded to 0.1. Refused packets are not lost. */
  readonly lossPercent: number
  /** One entry for each packet in the order of sending; null: it did not come back. */
  readonly rttsMs: readonly (number | null)[]
  /** Absent when no packet came back. `mdev` is the standard deviation. */
  readonly rtt?: { readonly min: number; readonly avg: number; readonly max: number; readonly mdev: number }
}

/** The answer of GET /v1/doctor: what an examination of this agent and its host has found, the worst first. */
export interface DoctorAnswer extends Answer {
  /** The worst state of all findings. */
  readonly verdict: FindingRow['state']
  readonly findings: readonly FindingRow[]
}

/** The result of one check of one thing. */
export interface FindingRow {
  /** `data-plane`, `drift`, `dns`, `upstream-dns`, `control`, `tunnel`, `clock`, `disk`, or `fault` for what meshd found by itself. */
  readonly check: string
  /** `ok`: nothing to do. `warning`: it works, and the operator should act. `fault`: it does not work. */
  readonly state: 'ok' | 'warning' | 'fault'
  /** The code of a `fault`, as in FaultRow; absent for the other checks and in the answers of agents before 0.3. */
  readonly code?: string
  /** A cluster and a node, an address, a path or a part of the host; '' where there is only one. */
  readonly subject: string
  readonly text: string
  readonly fix?: string
}
