import assert from 'node:assert/strict'
import type { KubeClient, KubeRequest } from '../../../src/io/kube/client.ts'
import { KubeError } from '../../../src/io/kube/errors.ts'
import { createElector, type Elector, type ElectorOptions } from '../../../src/io/kube/lease.ts'
import { eventually } from '../../eventually.ts'

interface Lease {
  metadata: { name: string; resourceVersion?: string }
  spec: {
    holderIdentity: string
    leaseTransitions: number
    leaseDurationSeconds?: number
    renewTime?: string
  }
}

/** The one Lease of a namespace, with the API's optimistic locking. */
class FakeLeases implements KubeClient {
  readonly server = 'http://fake'
  readonly namespace = 'default'
  lease: Lease | undefined
  /** Requests wait for ever, as on a link that swallows packets. */
  silent = false
  #version = 0

  async request({ method = 'GET', body, signal, deadlineMs = 1000 }: KubeRequest): Promise<unknown> {
    if (this.silent) await silence(signal, deadlineMs)
    if (method === 'GET') {
      return (
        this.lease ?? assert.fail(new KubeError({ code: 'NOT_IN_CLUSTER', message: 'no lease', status: 404 }))
      )
    }
    const written = body as Lease
    const expected = method === 'POST' ? undefined : written.metadata.resourceVersion
    if (this.lease?.metadata.resourceVersion !== expected) {
      throw new KubeError({ code: 'CONFLICT', message: 'the object has been modified', status: 409 })
    }
    this.#version += 1
    this.lease = { ...written, metadata: { ...written.metadata, resourceVersion: String(this.#version) } }
    return this.lease
  }

  watch(): Promise<void> {
    return Promise.reject(new Error('not used'))
  }

  close(): void {
    this.silent = false
  }
}

function silence(signal: AbortSignal | undefined, deadlineMs: number): Promise<never> {
  return new Promise((_resolve, reject) => {
    const timer = setTimeout(
      () => reject(new KubeError({ code: 'TIMEOUT', message: `no answer in ${deadlineMs} ms` })),
      deadlineMs
    )
    signal?.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(signal.reason as Error)
    })
  })
}

describe('an elector', () => {
  const times = { leaseDurationMs: 1000, renewDeadlineMs: 300, retryMs: 30 }
  let leases: FakeLeases
  let electors: Elector[]
  let events: string[]

  beforeEach(() => {
    leases = new FakeLeases()
    electors = []
    events = []
  })

  afterEach(async () => {
    leases.close()
    await Promise.all(electors.map((each) => each.stop()))
  })

  function elect(identity: string, more: Partial<ElectorOptions> = {}): Elector {
    const elector = createElector({
      client: leases,
      namespace: 'default',
      name: 'speaker',
      identity,
      times,
      onChange: (state) => {
        events.push(`${identity} ${state.leader ? `leads ${state.term}` : 'stops'}`)
      },
      ...more
    })
    electors.push(elector)
    elector.start()
    return elector
  }

  it('leads alone, and hands over with the next term when it stops', async () => {
    const one = elect('one')
    await eventually(() => one.leadership().leader)
    elect('two')
    const version = leases.lease?.metadata.resourceVersion
    await eventually(() => leases.lease?.metadata.resourceVersion !== version)
    await one.stop()
    await eventually(() => events.length === 3)
    assert.deepEqual(events, ['one leads 0', 'one stops', 'two leads 1'])
  })

  it('stops before another may start when the API is silent', async () => {
    const troubles: string[] = []
    const one = elect('one', {
      onTrouble: (trouble) => {
        if (trouble) troubles.push(trouble.code)
      }
    })
    await eventually(() => one.leadership().leader)
    leases.silent = true
    const began = performance.now()
    await eventually(() => events.includes('one stops'))
    assert.ok(performance.now() - began < times.leaseDurationMs)
    assert.ok(troubles.includes('TIMEOUT'))
    leases.silent = false
    await eventually(() => one.leadership().leader)
    assert.equal(events.at(-1), 'one leads 0', 'nobody else had it: the term stays')
  })

  it('knows by the clock that it no longer leads, even where the event loop is late', async () => {
    let nowMs = 0
    const one = elect('one', { nowMs: () => nowMs })
    await eventually(() => one.leadership().leader)
    leases.silent = true
    nowMs = times.renewDeadlineMs
    assert.deepEqual(one.leadership(), { leader: false })
  })

  it('takes over a Lease whose holder is gone after its duration, by its own clock', async () => {
    leases.lease = {
      metadata: { name: 'speaker', resourceVersion: '7' },
      spec: {
        holderIdentity: 'dead',
        leaseTransitions: 4,
        leaseDurationSeconds: 1,
        renewTime: '2099-01-01T00:00:00.000000Z'
      }
    }
    const began = performance.now()
    const one = elect('one')
    await eventually(() => one.leadership().leader)
    assert.ok(performance.now() - began >= 1000)
    assert.deepEqual(events, ['one leads 5'])
  })

  it('does not start over when the Lease is deleted', async () => {
    const one = elect('one', { termFloor: () => 6 })
    await eventually(() => one.leadership().leader)
    leases.lease = undefined
    await eventually(() => leases.lease !== undefined)
    assert.deepEqual(events, ['one leads 6'])
  })

  it('refuses times that allow two leaders', () => {
    for (const bad of [
      { leaseDurationMs: 1000, renewDeadlineMs: 1000, retryMs: 100 },
      { leaseDurationMs: 1500, renewDeadlineMs: 1000, retryMs: 100 },
      { leaseDurationMs: 2000, renewDeadlineMs: 1000, retryMs: 900 }
    ]) {
      assert.throws(() => elect('one', { times: bad }), RangeError)
    }
  })
})
