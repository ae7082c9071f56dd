// Elects the speaker, which is the one agent that publishes the records of this cluster, by a Lease of its Kubernetes
// API. The decisions are in core/kube/election.ts; this file adds the clock and the network. app/sources/source.ts
// starts it.
// RBAC: get, create and update of leases in the namespace.
import {
  bid,
  ELECTION_TIMES,
  observe,
  type ElectionTimes,
  type LeaseSpec,
  type Observed
} from '../../core/kube/election.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import type { KubeClient } from './client.ts'
import { asKubeError, KubeError } from './errors.ts'

/** Whether this agent leads. `term` (leaseTransitions of the Lease) never falls; each new holder raises it. */
export type Leadership = { readonly leader: true; readonly term: number } | { readonly leader: false }

export interface ElectorOptions {
  readonly client: KubeClient
  readonly namespace: string
  /** The name of the Lease. */
  readonly name: string
  /** Unique among the candidates and the same after a restart: the agent's PeerId. */
  readonly identity: string
  /**
   * Called after each change. The end is reported before another candidate can lead, unless the event loop is blocked;
   * `leadership` is right even then.
   */
  readonly onChange: (leadership: Leadership) => void
  /**
   * Called after each attempt: with the error of a request, but not with a conflict, or with undefined after a success.
   */
  readonly onTrouble?: (trouble: KubeError | undefined) => void
  /**
   * Returns the lowest term in which this agent may lead, read before each bid: one above the highest term that was
   * seen of this cluster. Without it, terms would begin again at 0 after the Lease was deleted. Default 0.
   */
  readonly termFloor?: () => number
  /** Default: lease duration 15 s, renew deadline 10 s, an attempt every 2 to 2.4 s. */
  readonly times?: ElectionTimes
  /** A monotonic clock in milliseconds. Tests replace it. */
  readonly nowMs?: () => number
  readonly random?: () => number
}

export interface Elector {
  /** Begins to bid for the Lease, and goes on until `stop`. */
  start(): void
  /** The present state by the clock: false as soon as the deadline has passed, even before `onChange` is called. */
  leadership(): Leadership
  /**
   * Steps down, calls `onChange`, and releases the Lease so that another candidate need not wait. Takes at most 2 s for
   * that.
   */
  stop(): Promise<void>
}

/** Returns an elector that sends no request before `start`. Throws RangeError when `times` would allow two leaders. */
export function createElector(options: ElectorOptions): Elector {
  const { client, identity, times = ELECTION_TIMES, random = Math.random } = options
  const nowMs = options.nowMs ?? ((): number => performance.now())
  const path = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`
  // A Lease states its duration in whole seconds. With a fraction, other candidates would wait for another time than
  // this one assumes.
  const whole = times.leaseDurationMs % 1000 === 0
  if (
    !whole ||
    times.renewDeadlineMs >= times.leaseDurationMs ||
    times.retryMs * 1.2 >= times.renewDeadlineMs
  ) {
    throw new RangeError('expected retry * 1.2 < renewDeadline < leaseDuration, the last in whole seconds')
  }
  const stopping = new AbortController()
  let observed: Observed | undefined
  /** When this agent took the Lease (acquireTime). Shown to people only; no clock is compared with it. */
  let acquired = new Date()
  let term: number | undefined
  let validUntilMs = 0
  let expiry: NodeJS.Timeout | undefined
  let running: Promise<void> | undefined
  let wake: (() => void) | undefined

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const began = nowMs()
      try {
        await attempt()
        options.onTrouble?.(undefined)
      } catch (error) {
        if (stopping.signal.aborted) return
        // A conflict means that another candidate has written first. The next attempt begins with a read, so it is no
        // fault.
        const trouble = asKubeError(error, path)
        if (trouble.code !== 'CONFLICT') options.onTrouble?.(trouble)
      }
      // The random part separates candidates that started at the same time.
      await pause(Math.max(0, began + times.retryMs * (1 + random() * 0.2) - nowMs()))
    }
  }

  async function attempt(): Promise<void> {
    const current = await read()
    observed = current && observe(observed, current, nowMs())
    const termFloor = Math.max(options.termFloor?.() ?? 0, term ?? 0)
    const decision = bid(observed, { holder: identity, times, termFloor }, nowMs())
    if (decision.kind === 'wait') return stepDown()
    // The deadline counts from before the request, because the server may write the Lease at any time after this.
    const sentMs = nowMs()
    const written = await write(decision.version, decision.spec)
    observed = observe(observed, written, nowMs())
    if (!stopping.signal.aborted) lead(decision.spec.term, sentMs)
  }

  function lead(next: number, sinceMs: number): void {
    const fresh = term !== next
    // The answer took so long that the deadline of this renewal has passed already.
    if (nowMs() >= sinceMs + times.renewDeadlineMs) return
    term = next
    validUntilMs = sinceMs + times.renewDeadlineMs
    clearTimeout(expiry)
    expiry = setTimeout(stepDown, Math.max(0, validUntilMs - nowMs())).unref()
    if (fresh) options.onChange({ leader: true, term: next })
  }

  function stepDown(): void {
    clearTimeout(expiry)
    if (term === undefined) return
    term = undefined
    options.onChange({ leader: false })
  }

  async function read(): Promise<{ readonly version: string; readonly spec: LeaseSpec } | undefined> {
    try {
      return parseLease(await client.request({ path: `${path}/${options.name}`, ...limits() }))
    } catch (error) {
      if (error instanceof KubeError && error.code === 'NOT_IN_CLUSTER') return undefined
      throw error
    }
  }

  async function write(version: string | undefined, spec: LeaseSpec) {
    if (observed?.spec.holder !== identity) acquired = new Date()
    const body = leaseObject({ options, version, spec, acquired })
    const create = version === undefined
    return parseLease(
      await client.request({
        method: create ? 'POST' : 'PUT',
        path: create ? path : `${path}/${options.name}`,
        body,
        ...limits()
      })
    )
  }

  function limits() {
    return { deadlineMs: Math.ceil(times.renewDeadlineMs / 2), signal: stopping.signal }
  }

  function pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, delayMs).unref()
      wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  async function giveBack(): Promise<void> {
    const version = observed?.version
    if (version === undefined || observed?.spec.holder !== identity) return
    const spec: LeaseSpec = { holder: '', durationMs: 1000, term: observed.spec.term }
    const body = leaseObject({ options, version, spec, acquired })
    await client
      .request({ method: 'PUT', path: `${path}/${options.name}`, body, deadlineMs: GIVE_BACK_MS })
      .catch((error: unknown) => options.onTrouble?.(asKubeError(error, path)))
  }

  return {
    start: () => {
      running ??= run()
    },
    leadership: () =>
      term !== undefined && nowMs() < validUntilMs ? { leader: true, term } : { leader: false },
    stop: async () => {
      stopping.abort()
      const led = term !== undefined
      stepDown()
      wake?.()
      await running
      if (led) await giveBack()
    }
  }
}

// Milliseconds. An agent that stops must not wait for an API that does not answer; the Lease then expires by itself.
const GIVE_BACK_MS = 2000

/** Reads the fields that the election needs. Errors: KubeError BAD_RESPONSE for an object without a version. */
function parseLease(body: unknown): { readonly version: string; readonly spec: LeaseSpec } {
  const object: Fields = isFields(body) ? body : {}
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const spec = isFields(object['spec']) ? object['spec'] : {}
  const version = metadata['resourceVersion']
  if (typeof version !== 'string') {
    throw new KubeError({ code: 'BAD_RESPONSE', message: 'the answer is not a Lease' })
  }
  const { holderIdentity: holder = '', leaseDurationSeconds: seconds, leaseTransitions: term } = spec
  return {
    version,
    spec: {
      holder: typeof holder === 'string' ? holder : '',
      durationMs: typeof seconds === 'number' ? seconds * 1000 : 0,
      term: typeof term === 'number' ? term : 0
    }
  }
}

/** The object to write. With a version the API server refuses the write (409) if the Lease has changed since. */
function leaseObject(of: {
  readonly options: ElectorOptions
  readonly version: string | undefined
  readonly spec: LeaseSpec
  readonly acquired: Date
}): object {
  const { options, version, spec, acquired } = of
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: {
      name: options.name,
      namespace: options.namespace,
      ...(version === undefined ? {} : { resourceVersion: version })
    },
    spec: {
      holderIdentity: spec.holder,
      leaseDurationSeconds: spec.durationMs / 1000,
      acquireTime: microTime(acquired),
      renewTime: microTime(new Date()),
      leaseTransitions: spec.term
    }
  }
}

/** Formats a time as meta/v1 MicroTime, which has six decimals. */
function microTime(date: Date): string {
  return date.toISOString().replace('Z', '000Z')
}
