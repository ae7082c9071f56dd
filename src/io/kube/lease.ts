// Who speaks for this cluster: leader election over one Lease. The decisions are in core/kube/election.ts; this is their clock and
// network. RBAC: get, create and update of leases in the namespace.
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

export type Leadership = { readonly leader: true; readonly term: number } | { readonly leader: false }

export interface ElectorOptions {
  readonly client: KubeClient
  readonly namespace: string
  /** Of the Lease. */
  readonly name: string
  /** Unique among the candidates, and the same after a restart: the PeerId. */
  readonly identity: string
  /** Called on every change, before another candidate can see the other side of it. */
  readonly onChange: (leadership: Leadership) => void
  /** The error while the Lease cannot be read or written. */
  readonly onTrouble?: (trouble: KubeError | undefined) => void
  /** The least term to lead with: one above the highest that this cluster was seen with, so that a Lease that was deleted
   * does not start over below it. Default 0. */
  readonly termFloor?: () => number
  readonly times?: ElectionTimes
  /** Milliseconds that never go back. */
  readonly nowMs?: () => number
  readonly random?: () => number
}

export interface Elector {
  start(): void
  /** By the clock, too: false as soon as the deadline has passed, even before the event. */
  leadership(): Leadership
  /** Steps down, tells so, and gives the Lease back so that another need not wait. */
  stop(): Promise<void>
}

/** Errors: RangeError when the times allow two leaders. */
export function createElector(options: ElectorOptions): Elector {
  const { client, identity, times = ELECTION_TIMES, random = Math.random } = options
  const nowMs = options.nowMs ?? ((): number => performance.now())
  const path = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`
  // The Lease has whole seconds: less would be written as something else than what we keep to.
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
  /** When the Lease was taken; for people. */
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
        // Read anew before the next bid; another candidate was quicker, perhaps.
        const trouble = asKubeError(error, path)
        if (trouble.code !== 'CONFLICT') options.onTrouble?.(trouble)
      }
      // Candidates that started together must not bid together for ever.
      await pause(Math.max(0, began + times.retryMs * (1 + random() * 0.2) - nowMs()))
    }
  }

  async function attempt(): Promise<void> {
    const current = await read()
    observed = current && observe(observed, current, nowMs())
    const termFloor = Math.max(options.termFloor?.() ?? 0, term ?? 0)
    const wish = bid(observed, { holder: identity, times, termFloor }, nowMs())
    if (wish.kind === 'wait') return stepDown()
    // Counted from before the request: the server may write it any time after.
    const sentMs = nowMs()
    const written = await write(wish.version, wish.spec)
    observed = observe(observed, written, nowMs())
    if (!stopping.signal.aborted) lead(wish.spec.term, sentMs)
  }

  function lead(next: number, sinceMs: number): void {
    const fresh = term !== next
    // It came too late to be of use: the deadline has passed, and has been told.
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
      if (error instanceof KubeError && error.code === 'NOT_FOUND') return undefined
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

// An agent that ends must not hang on an API that is gone; the Lease runs out by itself.
const GIVE_BACK_MS = 2000

function parseLease(body: unknown): { readonly version: string; readonly spec: LeaseSpec } {
  const object: Fields = isFields(body) ? body : {}
  const metadata = isFields(object['metadata']) ? object['metadata'] : {}
  const spec = isFields(object['spec']) ? object['spec'] : {}
  const version = metadata['resourceVersion']
  if (typeof version !== 'string') {
    throw new KubeError({ code: 'BAD_RESPONSE', message: 'the answer is no Lease' })
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

/** meta/v1 MicroTime. */
function microTime(date: Date): string {
  return date.toISOString().replace('Z', '000Z')
}
