// A renewed certificate over real connections: members that are no neighbours learn of it, and the certificate of a
// gateway that has not followed ends.
import assert from 'node:assert/strict'
import type { Control } from '../../../src/app/control/control.ts'
import type { HandshakeOutcome } from '../../../src/app/control/handshakes.ts'
import { eventually } from '../../eventually.ts'
import { call, Controls, dial } from './controls.ts'

describe('the renewal of a certificate', () => {
  let controls: Controls

  beforeEach(() => {
    controls = new Controls()
  })

  afterEach(() => controls.stop())

  it('reaches members that are no neighbours; the second one shuts out a gateway that has not followed', async () => {
    const { world, seat, founder } = controls
    const cluster = world.join(seat, founder, 1, 'c1', { pods: ['10.1.1.0/24'] })
    /** A gateway of c1, and its credential of each generation. */
    const gateway = () => {
      const nodeSeed = world.crypto.random(32)
      const credential = (generation: number) => world.agent(cluster, generation, nodeSeed).item
      const shows = { kind: 'member' as const, credential: credential(1) }
      return { credential, options: { nodeSeed, clusterSeed: cluster.seed, shows } }
    }
    const [renewed, gone] = [gateway(), gateway()]
    const c0 = await controls.startMember()
    controls.clusters.push(cluster)
    const c1 = await controls.startMember(renewed.options)
    const c2 = await controls.startMember()
    await dial([c1, c2], c0)
    const value = { kind: 'service', namespace: 'shop', name: 'web', ports: [], clusterIps: [] }
    await c1.publish([{ key: 'svc/shop/web', value: value as never }])
    const generationAt = (at: Control) => at.members.agentOf(c1.origin)?.generation
    await eventually(() => generationAt(c2) === 1)
    for (const generation of [2, 3]) {
      c1.renewed(renewed.credential(generation), renewed.options.clusterSeed)
      for (const at of [c0, c2]) await eventually(() => generationAt(at) === generation)
      assert.ok(c0.neighbours().includes(c1.origin), 'the connection stays')
    }
    const outcomes: HandshakeOutcome[] = []
    const copy = await controls.startMember({
      ...gone.options,
      onHandshake: (outcome) => void outcomes.push(outcome)
    })
    call([copy], c2)
    await eventually(() =>
      outcomes.some(
        (outcome) =>
          outcome.kind === 'refused' &&
          outcome.byPeer &&
          outcome.detail.includes('its certificate is two generations old or older')
      )
    )
    assert.ok(!c2.neighbours().includes(copy.origin))
  })
})
