// The answer of GET /v1/hand-over, POST /v1/drain and POST /v1/undrain: how far the hand-over of this gateway is.
import type { Answer } from './answers.ts'

/** A host with a tunnel to this gateway. */
export interface MoveRow {
  readonly cluster: string
  readonly node: string
  readonly peerId: string
  /** The version of its meshd. */
  readonly version: string
  /**
   * `moved`: it sends nothing by this gateway any more. `waiting`: it has not said so. `untold`: it cannot say so, because it
   * sends no probes. `away`: its tunnel does not answer.
   */
  readonly state: 'moved' | 'waiting' | 'untold' | 'away'
}

export interface HandOverAnswer extends Answer {
  /** `active`: nothing is handed over. `drained`: by `meshctl drain`. `stopping`: before a stop or a leave of the agent. */
  readonly state: 'active' | 'drained' | 'stopping'
  readonly cluster: string
  /** The name of this gateway's host. */
  readonly node: string
  /** The names of the gateways of this cluster that take over; empty: there is none. */
  readonly takers: readonly string[]
  /** The gateways of the other clusters, and the nodes of this one; empty while nothing is handed over. */
  readonly hosts: readonly MoveRow[]
  /** False while a host has not said that it has moved, and while nothing is handed over; `away` counts as moved. */
  readonly moved: boolean
}
