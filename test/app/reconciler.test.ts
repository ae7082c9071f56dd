import assert from 'node:assert/strict'
import pino from 'pino'
import { createMetrics } from '../../src/app/metrics.ts'
import { Reconciler, type Wish } from '../../src/app/reconciler.ts'
import type { Host, HostOp, HostState, Vip } from '../../src/core/host.ts'
import { EMPTY_HOST } from '../../src/core/host-order.ts'
import { applyOps } from '../../src/core/model-host.ts'
import type { Cidr } from '../../src/core/model.ts'
import { eventually } from '../eventually.ts'

/** A host that is a value, and that can be broken. */
class FakeHost implements Host {
  readonly loadBalancer = 'nftables'
  state: HostState = EMPTY_HOST
  broken: Error | undefined
  observed = 0
  readonly applied: HostOp[][] = []

  start = async (): Promise<void> => undefined
  stop = async (): Promise<void> => undefined
  cleanup = async (): Promise<void> => undefined
  peerStats = async () => []
  describe = () => []

  async observe(): Promise<HostState> {
    this.observed++
    return this.state
  }

  async apply(ops: readonly HostOp[]): Promise<void> {
    const [first, ...rest] = ops
    if (this.broken !== undefined) {
      // As a tool that dies half-way: the first operation was carried out.
      if (first !== undefined && rest.length > 0) this.state = applyOps(this.state, [first])
      throw this.broken
    }
    this.applied.push([...ops])
    this.state = applyOps(this.state, ops)
  }
}

describe('the reconciler', () => {
  const host = () => new FakeHost()
  const vip = (destination: string): Vip => ({ destination: destination as Cidr, source: undefined })
  const wants = (...vips: readonly string[]): Wish => ({
    want: { ...EMPTY_HOST, vips: vips.map(vip) },
    deletes: true
  })
  const running: Reconciler[] = []

  function reconcile(on: FakeHost, wish: () => Wish | undefined): Reconciler {
    const reconciler = new Reconciler({
      host: on,
      wish,
      drainMs: 0,
      log: pino({ enabled: false }),
      metrics: createMetrics()
    })
    running.push(reconciler)
    return reconciler
  }

  afterEach(async () => {
    await Promise.all(running.splice(0).map((reconciler) => reconciler.stop()))
  })

  it('makes the host what is wanted, and has nothing to do on a second pass', async () => {
    const fake = host()
    const reconciler = reconcile(fake, () => wants('10.101.0.0/16', '10.102.0.0/16'))
    reconciler.mark()
    await eventually(() => reconciler.inStep)
    assert.deepEqual(fake.state.vips, [vip('10.101.0.0/16'), vip('10.102.0.0/16')])
    const passes = fake.applied.length
    reconciler.mark({ observe: true })
    await eventually(() => reconciler.inStep)
    assert.equal(fake.applied.length, passes)
    assert.deepEqual(await reconciler.preview(), [])
  })

  it('leaves the host alone while nothing is known', async () => {
    const fake = host()
    let wish: Wish | undefined
    const reconciler = reconcile(fake, () => wish)
    reconciler.mark()
    assert.deepEqual(await reconciler.preview(), [])
    assert.equal(reconciler.last, undefined)
    wish = wants('10.101.0.0/16')
    reconciler.mark()
    await eventually(() => reconciler.inStep)
    assert.equal(fake.applied.length, 1)
  })

  it('breaks, says why with the fix, retries by itself, and is calm once healed', async () => {
    const fake = host()
    fake.broken = Object.assign(new Error('no route'), { fix: 'make way' })
    const reconciler = reconcile(fake, () => wants('10.101.0.0/16', '10.102.0.0/16'))
    reconciler.mark()
    await eventually(() => reconciler.last?.error === 'no route; make way')
    assert.equal(reconciler.inStep, false)
    fake.broken = undefined
    await eventually(() => reconciler.inStep)
    assert.equal(reconciler.last?.error, undefined)
    assert.equal(fake.state.vips.length, 2)
    // The half that was carried out is not done again.
    assert.equal(fake.applied.flat().length, 1)
  })

  it('does not read the kernel for a change of the wish, and does for a hint', async () => {
    const fake = host()
    let wish = wants('10.101.0.0/16')
    const reconciler = reconcile(fake, () => wish)
    reconciler.mark()
    await eventually(() => reconciler.inStep)
    const { observed } = fake
    wish = wants('10.102.0.0/16')
    reconciler.mark()
    await eventually(() => fake.state.vips[0]?.destination === '10.102.0.0/16' && reconciler.inStep)
    assert.equal(fake.observed, observed)
    fake.state = EMPTY_HOST // somebody took it away
    reconciler.mark({ observe: true })
    await eventually(() => fake.state.vips.length === 1)
    assert.ok(fake.observed > observed)
  })

  it('only adds until every catalogue is whole', async () => {
    const fake = host()
    fake.state = applyOps(EMPTY_HOST, [{ kind: 'addVip', vip: vip('10.103.0.0/16') }])
    let wish: Wish = { ...wants('10.101.0.0/16'), deletes: false }
    const reconciler = reconcile(fake, () => wish)
    reconciler.mark()
    await eventually(() => reconciler.inStep)
    assert.equal(fake.state.vips.length, 2)
    wish = wants('10.101.0.0/16')
    reconciler.mark()
    await eventually(() => fake.state.vips.length === 1)
  })

  it('ends after the pass under way and leaves the host as it is', async () => {
    const fake = host()
    const reconciler = reconcile(fake, () => wants('10.101.0.0/16'))
    reconciler.mark()
    await eventually(() => reconciler.inStep)
    await reconciler.stop()
    reconciler.mark()
    await reconciler.stop()
    assert.equal(fake.state.vips.length, 1)
  })

  // Once it spun: a mark between the loop's end and its `finally` asked for another loop that ended at once, for ever.
  it('takes no mark while it stops', async () => {
    const fake = host()
    const reconciler = reconcile(fake, () => wants('10.101.0.0/16'))
    reconciler.mark()
    const stopped = reconciler.stop()
    reconciler.mark({ observe: true })
    await stopped
    await new Promise((resolve) => {
      setImmediate(resolve) // never comes while microtasks follow each other
    })
    assert.equal(fake.observed, 1)
  })
})
