// The hand-over of this gateway: for as long as an operator asks for it (`meshctl drain`), and before its agent stops for
// long or leaves (docs/decisions/0075). The record of this agent has the state, so it needs no other place on disk, and a
// restart begins with it. core/host/hand-over.ts has what follows from it.
// Invariants
//   1. `drained` is set and taken back by an operator only, and lasts through restarts. `stopping` is taken back by the next
//      run of the agent, once a pass has brought its host up to date and a member is there to hear it.
//   2. Without another gateway that lives, nothing is handed over, unless an operator insists. A stop is not delayed then.
//   3. A stop waits for HAND_OVER_MS_MAX at most, also when hosts have not moved.
import { setTimeout as pause } from 'node:timers/promises'
import { haveMoved, movesOf, takers, type Move } from '../../core/host/hand-over.ts'
import type { TunnelState } from '../../core/host/tunnel-state.ts'
import type { HandOver as Reason, Ip, Origin } from '../../core/model/values.ts'
import type { AgentView, ProvedAgent } from '../../core/view/view.ts'
import type { Control } from '../control/control.ts'
import type { Reconciler } from '../host/reconciler.ts'
import { monotonicMs } from '../observe/clock.ts'
import { AppError } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import type { Log } from '../observe/log.ts'
import { roleOf } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'

/**
 * The longest wait of a stop, in milliseconds. A host moves within a second, and within some seconds when it is busy. The
 * limits of service managers are above it and the stop of all parts together (main.ts).
 */
export const HAND_OVER_MS_MAX = 10_000
const LOOK_MS = 50
/** Milliseconds for packets that were sent before the last host had moved: more than a round trip around the earth. */
const IN_FLIGHT_MS = 300
const FAULT = 'GATEWAY_DRAINED'

/** What a hand-over reads and does. */
export interface HandOverOptions {
  readonly settings: Pick<Settings, 'role'>
  readonly control: Pick<Control, 'origin' | 'view' | 'neighbour' | 'neighbours' | 'liveness'>
  readonly health: Pick<Health, 'set' | 'clear'>
  readonly log: Pick<Log, 'info' | 'warn'>
  /** The loop that programs the host, which is made later; undefined: no data plane. */
  readonly reconciler: () => Pick<Reconciler, 'last'> | undefined
  readonly tunnel: (origin: Origin) => TunnelState['state']
  /** Whether the latest probe from this address, if it came after `sinceMs`, says that its host has moved. */
  readonly saysMoved: (address: Ip, sinceMs: number) => boolean
  /** Publishes the record of this agent, with `state`. */
  readonly publish: () => Promise<void>
  /** The longest wait of a stop, in milliseconds. Default: HAND_OVER_MS_MAX. */
  readonly msMax?: number
}

/** How far a hand-over is. */
interface Progress {
  readonly state: Reason | undefined
  /** The gateways that take over. */
  readonly takers: readonly AgentView[]
  readonly moves: readonly Move[]
}

/** The hand-over of one session. */
export class HandOver {
  readonly #options: HandOverOptions
  #state: Reason | undefined
  /** True while `stopping` comes from an earlier run of the agent. */
  #isEarlier = false
  /** Monotonic time of the present state. */
  #sinceMs = 0

  constructor(options: HandOverOptions) {
    this.#options = options
  }

  /** What the record of this agent says; undefined: this gateway hands nothing over. */
  get state(): Reason | undefined {
    return this.#state
  }

  /** Begins with what the record of an earlier run says. */
  restore(record: Pick<ProvedAgent, 'handOver'> | undefined): void {
    this.#state = record?.handOver
    this.#isEarlier = this.#state === 'stopping'
    this.#sinceMs = monotonicMs()
  }

  /** How far it is: who takes over, and which hosts have moved. */
  progress(): Progress {
    const { control, tunnel, saysMoved } = this.#options
    const view = control.view()
    const hasMoved = ({ agent: { tunnelAddress } }: AgentView): boolean =>
      tunnelAddress !== undefined && saysMoved(tunnelAddress, this.#sinceMs)
    return {
      state: this.#state,
      takers: this.#takers(),
      moves: movesOf(view, { self: control.origin, tunnel, hasMoved })
    }
  }

  /**
   * Asks all hosts to prefer the other gateways of this cluster. `force`: also when none lives. Errors: AppError
   * NOT_A_GATEWAY, ONLY_GATEWAY.
   */
  async drain({ force }: { readonly force: boolean }): Promise<void> {
    this.#requireGateway()
    if (this.#takers().length === 0 && !force && this.#state !== 'drained') throw this.#onlyGateway()
    await this.#become('drained')
  }

  /** Takes the traffic back. Errors: AppError NOT_A_GATEWAY. */
  async undrain(): Promise<void> {
    this.#requireGateway()
    await this.#become(undefined)
  }

  /** Takes back the `stopping` of an earlier run (1), and tells of the state. Called once a second. */
  async follow(): Promise<void> {
    const { control, reconciler } = this.#options
    const host = reconciler()
    const isReady = host === undefined || host.last !== undefined
    const isHeard = control.neighbours().length > 0 || control.view().clusters.size < 2
    if (this.#isEarlier && isReady && isHeard) await this.#become(undefined)
    this.#tell()
  }

  /**
   * Hands over before the agent stops for long or leaves. Resolves when all hosts have moved, or after HAND_OVER_MS_MAX. What
   * still comes afterwards is forwarded as long as the host lives.
   */
  async beforeStop(): Promise<void> {
    const { settings, log, msMax = HAND_OVER_MS_MAX } = this.#options
    const { takers: others, moves } = this.progress()
    if (roleOf(settings) === 'node' || others.length === 0) return
    if (moves.every(({ state }) => state === 'away')) return
    const startedMs = monotonicMs()
    if (this.#state !== 'drained') await this.#become('stopping')
    while (this.#isWaiting() && monotonicMs() - startedMs < msMax) await pause(LOOK_MS)
    await pause(IN_FLIGHT_MS)
    const late = this.progress().moves.filter(({ state }) => state === 'waiting' || state === 'untold')
    const ms = Math.round(monotonicMs() - startedMs)
    const names = { to: others.map(({ agent }) => agent.node), ms }
    if (late.length === 0) log.info(names, 'handed the traffic over before the stop')
    else
      log.warn(
        {
          ...names,
          late: late.slice(0, LATE_SHOWN).map(({ cluster, agent }) => `${cluster} ${agent.agent.node}`)
        },
        `${late.length} hosts have not said that they have moved; the stop goes on`
      )
  }

  /** Hands over before a leave, also where an operator has drained the gateway, and clears the fault GATEWAY_DRAINED. */
  async beforeLeave(): Promise<void> {
    if (this.#state === 'drained') await this.#become('stopping')
    await this.beforeStop()
    this.#options.health.clear(FAULT)
  }

  /** The other gateways may begin to hand over at the same time: then no gateway is left to move to. */
  #isWaiting(): boolean {
    const { takers: others, moves } = this.progress()
    return others.length > 0 && !haveMoved(moves)
  }

  async #become(state: Reason | undefined): Promise<void> {
    this.#isEarlier = false
    if (state === this.#state) return
    const before = this.#state
    this.#state = state
    this.#sinceMs = monotonicMs()
    this.#options.log.info(
      { state: state ?? 'active', before: before ?? 'active' },
      'the hand-over has changed'
    )
    this.#tell()
    await this.#options.publish()
  }

  #takers(): readonly AgentView[] {
    const { control } = this.#options
    return takers(control.view(), control.origin, (origin) => control.liveness(origin) === 'alive')
  }

  #tell(): void {
    const { health, control } = this.#options
    if (this.#state !== 'drained') return health.clear(FAULT)
    const { self } = control.view()
    health.set(FAULT, {
      severity: 'warning',
      message:
        this.#takers().length > 0
          ? `this gateway is drained: the other gateways of cluster ${self} carry its traffic`
          : `this gateway is drained, but cluster ${self} has no other gateway that lives, so it still carries the traffic`,
      fix: '`meshctl undrain` takes the traffic back, after the maintenance for which it was drained'
    })
  }

  #requireGateway(): void {
    if (roleOf(this.#options.settings) !== 'node') return
    throw new AppError(
      'NOT_A_GATEWAY',
      'this agent is a node: the gateways of its cluster carry its traffic, and it has nothing to hand over',
      'run the command on a gateway of this cluster; `meshctl peers -o wide` shows them'
    )
  }

  #onlyGateway(): AppError {
    const { self } = this.#options.control.view()
    return new AppError(
      'ONLY_GATEWAY',
      `this is the only gateway of cluster ${self} that lives and is not drained: nothing else can carry its traffic`,
      'start another gateway first (`meshctl invite --gateway` makes its token; in Kubernetes, label another Node); `meshctl drain --force` announces it nevertheless'
    )
  }
}

// The line of the log names this many hosts.
const LATE_SHOWN = 20
