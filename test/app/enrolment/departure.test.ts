// A leave whose steps fail: the next one continues, and nothing is lost or left over.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Departure } from '../../../src/app/enrolment/departure.ts'
import { createIdentity } from '../../../src/app/identity/identity.ts'
import { CodedError } from '../../../src/core/model/coded-error.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'

const STEPS = [
  'hand over',
  'keep',
  'resign',
  'undo',
  'imports',
  'withdraw',
  'tell',
  'stop',
  'cleanup',
  'remove',
  'forget',
  'current'
] as const
type StepName = (typeof STEPS)[number]
/** Steps without whose success the steps after them are done all the same. */
const NEED_API: ReadonlySet<StepName> = new Set(['undo', 'imports', 'remove'])
/** How an attempt at a step fails: before it has done anything, or when all its work was done. */
type Failing = 'before' | 'after'

const identity = createIdentity(createCrypto())

/** What a member has, step by step; each step takes one thing away, as often as it is done. */
function membership(failings: Readonly<Partial<Record<StepName, readonly Failing[]>>>, isLast = true) {
  const left = new Set<StepName>(STEPS)
  const calls: StepName[] = []
  /** What was left when the services were read again. */
  const reads: (readonly StepName[])[] = []
  const queues = new Map(STEPS.map((step) => [step, [...(failings[step] ?? [])]]))
  const act = (step: StepName) => async () => {
    calls.push(step)
    const failing = queues.get(step)?.shift()
    if (failing !== 'before') left.delete(step)
    if (failing !== undefined)
      throw new CodedError({ code: 'BROKEN', message: `${step} is broken`, fix: `mend ${step}` })
  }
  const made = act('current')
  const departure = new Departure({
    cluster: 'west' as ClusterName,
    identity,
    endsMesh: false,
    keptFor: [],
    isLast: () => isLast,
    resign: () => act('tell')().then(() => undefined),
    handOver: act('hand over'),
    session: { withdraw: act('withdraw'), stop: act('stop') },
    current: { clear: () => undefined },
    source: { resign: act('resign'), refresh: () => void reads.push([...left]) },
    sharedKey: { stop: act('keep'), remove: act('remove') },
    podDns: { undo: act('undo') },
    ownObjects: { undo: act('imports') },
    host: { cleanup: act('cleanup') },
    store: { forget: act('forget') },
    node: { current: () => made().then(() => identity) }
  })
  return { departure, left, calls, reads }
}

const failing = fc.constantFrom<Failing>('before', 'after')

describe('leaving a mesh', () => {
  for (const step of STEPS)
    for (const how of ['before', 'after'] as const)
      it(`is finished by a second attempt when ${step} fails ${how} its work, and names the step and its fix`, async () => {
        const { departure, left, calls } = membership({ [step]: [how] })
        await assert.rejects(departure.run(), (error: unknown) => {
          assert.ok(error instanceof CodedError)
          assert.equal(error.code, 'LEAVE_UNFINISHED')
          assert.match(error.message, new RegExp(`^cluster west has .*${step} is broken`))
          assert.equal(
            error.fix,
            `mend ${step}; then run \`meshctl leave\` again, which continues with what is not done`
          )
          return true
        })
        if (!NEED_API.has(step)) assert.equal(calls.at(-1), step)
        await departure.run()
        assert.deepEqual([...left], [])
        assert.deepEqual(
          calls.filter((each) => each === step),
          [step, step]
        )
        assert.equal(calls.length, STEPS.length + 1, 'a step that was done is done again')
      })

  it('ends clean whatever fails and however often, and is a membership on disk until the host is clean', async () => {
    const failings = fc.record(
      Object.fromEntries(STEPS.map((step) => [step, fc.array(failing, { maxLength: 3 })])),
      { requiredKeys: [] }
    )
    await fc.assert(
      fc.asyncProperty(failings, async (chosen) => {
        const { departure, left } = membership(chosen)
        const attemptsMax = 1 + Object.values(chosen).reduce((sum, list) => sum + (list?.length ?? 0), 0)
        let attempts = 0
        for (let isDone = false; !isDone;) {
          assert.ok(attempts++ < attemptsMax, `not done after ${attemptsMax} attempts`)
          isDone = await departure.run().then(
            () => true,
            () => false
          )
          if (!left.has('forget'))
            for (const before of ['keep', 'resign', 'withdraw', 'tell', 'stop', 'cleanup'] as const)
              assert.ok(!left.has(before), `the membership was deleted before ${before} was done`)
          assert.ok(!departure.isOut || !left.has('forget'))
        }
        assert.deepEqual([...left], [])
        assert.ok(departure.isOut)
      })
    )
  })

  it('gets out while the API server does not answer, and says what stays there', async () => {
    const { departure, left } = membership({ undo: ['before'], imports: ['before'], remove: ['before'] })
    await assert.rejects(departure.run(), {
      message:
        'cluster west has left the mesh, but its agent could not remove the zones from the cluster’s own DNS (undo is broken) and delete the ServiceImports and MeshPeers (imports is broken) and remove the key of the cluster from its Secret, with which it would join again after a restart (remove is broken)'
    })
    assert.ok(departure.isOut)
    assert.deepEqual([...left], ['undo', 'imports', 'remove'])
  })

  it('reads its services again once it has no prefixes, since these judged them', async () => {
    const { departure, reads } = membership({ forget: ['before'] })
    await assert.rejects(departure.run())
    assert.deepEqual(reads, [])
    await departure.run()
    assert.deepEqual(reads, [[]])
  })

  it('leaves zones and key to the other gateways of the cluster', async () => {
    const { departure, left } = membership({}, false)
    await departure.run()
    assert.deepEqual([...left], ['undo', 'imports', 'remove'])
  })
})
