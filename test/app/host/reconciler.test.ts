import assert from 'node:assert/strict'
import pino from 'pino'
import { createMetrics } from '../../../src/app/observe/metrics.ts'
import { Reconciler, type Desired } from '../../../src/app/host/reconciler.ts'
import { Health } from '../../../src/app/observe/health.ts'
import type { Vip } from '../../../src/core/host/host-state.ts'
import { EMPTY_HOST } from '../../../src/core/host/normalize.ts'
import { plan } from '../../../src/core/host/plan.ts'
import { applyOps } from '../../../src/core/host/model-host.ts'
import { CodedError } from '../../../src/core/model/coded-error.ts'
import type { Cidr } from '../../../src/core/model/values.ts'
import { eventually } from '../../eventually.ts'
import { FakeHost } from './fake-host.ts'

describe('the reconciler', () => {
  const host = () => new FakeHost()
  const vip = (destination: string): Vip => ({ destination: destination as Cidr, source: undefined })
  const wants = (...vips: readonly string[]): Desired => ({
    want: { ...EMPTY_HOST, vips: vips.map(vip) },
    keeps: []
  })
  const running = new Map<Reconciler, () => Desired | undefined>()
  const log = pino({ enabled: false })
  let health: Health
  beforeEach(() => {
    health = new Health({ log, now: Date.now })
  })

  function reconcile(on: FakeHost, desired: () => Desired | undefined): Reconciler {
    const reconciler = new Reconciler({
      host: on,
      desired,
      drainMs: 0,
      log,
      metrics: createMetrics(),
      health
    })
    running.set(reconciler, desired)
    return reconciler
  }

  /** The host is as desired, as far as the passes know, and nothing has failed. */
  function isDone(reconciler: Reconciler): boolean {
    const { have, failures, fault, last } = reconciler
    const desired = running.get(reconciler)?.()
    if (desired === undefined || last === undefined || fault !== undefined) return false
    if (failures.steps.length + failures.parts.length > 0) return false
    return plan(desired.want, have, { keeps: desired.keeps }).length === 0
  }

  afterEach(async () => {
    await Promise.all([...running.keys()].map((reconciler) => reconciler.stop()))
    running.clear()
  })

  it('makes the host what is wanted, and has nothing to do on a second pass', async () => {
    const fake = host()
    const reconciler = reconcile(fake, () => wants('10.101.0.0/16', '10.102.0.0/16'))
    reconciler.mark()
    await eventually(() => isDone(reconciler))
    assert.deepEqual(fake.state.vips, [vip('10.101.0.0/16'), vip('10.102.0.0/16')])
    assert.deepEqual((await reconciler.preview()).ops, [])
    const [passes, looks] = [fake.applied.length, fake.observed]
    reconciler.mark({ observe: true })
    await eventually(() => fake.observed > looks)
    await reconciler.stop()
    assert.equal(fake.applied.length, passes)
  })

  it('goes on after a desired state that could not be made', async () => {
    const fake = host()
    let isBroken = true
    const reconciler = reconcile(fake, () => {
      if (isBroken) throw new Error('no desired state')
      return wants('10.101.0.0/16')
    })
    reconciler.mark()
    await eventually(() => reconciler.fault !== undefined)
    assert.match(reconciler.fault ?? '', /no desired state/)
    isBroken = false
    reconciler.mark()
    await eventually(() => isDone(reconciler))
    assert.equal(reconciler.fault, undefined)
    assert.deepEqual(fake.state.vips, [vip('10.101.0.0/16')])
  })

  it('leaves the host alone while nothing is known', async () => {
    const fake = host()
    let desired: Desired | undefined
    const reconciler = reconcile(fake, () => desired)
    reconciler.mark()
    assert.deepEqual((await reconciler.preview()).ops, [])
    assert.equal(reconciler.last, undefined)
    desired = wants('10.101.0.0/16')
    reconciler.mark()
    await eventually(() => isDone(reconciler))
    assert.equal(fake.applied.length, 1)
  })

  it('names what is refused, does all else, tries again by itself, and is calm once healed', async () => {
    const fake = host()
    let refused: unknown
    fake.refuses = (op) =>
      op.kind === 'addVip' && op.vip.destination === '10.101.0.0/16' && refused === undefined
        ? new CodedError({ code: 'NO_ROUTE', message: 'no route', fix: 'make way' })
        : undefined
    const reconciler = reconcile(fake, () => wants('10.101.0.0/16', '10.102.0.0/16'))
    reconciler.mark()
    await eventually(() => reconciler.last?.error === 'no route; make way')
    assert.deepEqual(fake.state.vips, [vip('10.102.0.0/16')])
    assert.deepEqual(
      health.faults().map(({ code, fix }) => `${code} ${fix}`),
      ['HOST_STEP_FAILED make way']
    )
    refused = 'no more'
    await eventually(() => isDone(reconciler))
    assert.equal(reconciler.last?.error, undefined)
    assert.equal(fake.state.vips.length, 2)
    assert.deepEqual(health.faults(), [])
    // What was carried out is not done again.
    assert.equal(fake.applied.flat().length, 2)
  })

  it('says which tool hangs, does what needs it not, and goes on as soon as it answers', async () => {
    const fake = host()
    const hangs = Object.assign(new Error('nft did not end'), { code: 'TOOL_TIMEOUT', tool: 'nft' })
    fake.hanging.set('virtualServers', hangs)
    const reconciler = reconcile(fake, () => wants('10.101.0.0/16'))
    reconciler.mark()
    await eventually(() => fake.state.vips.length === 1)
    await eventually(() => health.has('HOST_TOOL_HANGS', 'nft'))
    fake.hanging.clear()
    await eventually(() => isDone(reconciler))
    assert.deepEqual(health.faults(), [])
  })

  it('does not read the kernel for a change of the desired state, and does for a hint', async () => {
    const fake = host()
    let desired = wants('10.101.0.0/16')
    const reconciler = reconcile(fake, () => desired)
    reconciler.mark()
    await eventually(() => isDone(reconciler))
    const looks = fake.looks.length
    desired = wants('10.102.0.0/16')
    reconciler.mark()
    await eventually(() => fake.state.vips[0]?.destination === '10.102.0.0/16' && isDone(reconciler))
    assert.equal(fake.looks.length, looks)
    fake.state = EMPTY_HOST // somebody took it away
    reconciler.mark({ observe: true })
    await eventually(() => fake.state.vips.length === 1)
    assert.ok(fake.looks.length > looks)
  })

  it('only adds until every catalogue is whole', async () => {
    const fake = host()
    fake.state = applyOps(EMPTY_HOST, [{ kind: 'addVip', vip: vip('10.103.0.0/16') }])
    let desired: Desired = { ...wants('10.101.0.0/16'), keeps: 'all' }
    const reconciler = reconcile(fake, () => desired)
    reconciler.mark()
    await eventually(() => isDone(reconciler))
    assert.equal(fake.state.vips.length, 2)
    desired = wants('10.101.0.0/16')
    reconciler.mark()
    await eventually(() => fake.state.vips.length === 1)
  })

  it('ends after the pass under way and leaves the host as it is', async () => {
    const fake = host()
    const reconciler = reconcile(fake, () => wants('10.101.0.0/16'))
    reconciler.mark()
    await eventually(() => isDone(reconciler))
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
