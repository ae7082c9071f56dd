// When the neighbours of an agent are judged after a change of the trust set, without connections and without time.
import assert from 'node:assert/strict'
import { Links } from '../../../src/app/control/links.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import { World, type TestCluster, type Thing } from '../../core/trust/set/world.ts'
import { SILENT, trustOf } from './trust-parts.ts'

describe('the neighbours after a change of the trust set', () => {
  const world = new World()
  const seat = world.seat()
  const west = world.found('west')
  const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'] })
  const rotated = world.join(seat, west, 2, 'east', { pods: ['10.2.0.0/16'], replaces: east })
  const nodeSeed = world.crypto.random(32)
  const peer = originOf(world.crypto.publicKeyOf(nodeSeed))

  /** The links of west, with a gateway of east as their neighbour. */
  function linked() {
    const { trust } = trustOf(world, [seat, west, east])
    const ended: Origin[] = []
    const links = new Links({
      crypto: world.crypto,
      origin: 'west' as Origin,
      nodeSeed: world.crypto.random(32),
      roots: world.roots,
      clusterSeed: west.seed,
      shows: { kind: 'member', credential: world.agent(west, 1).item },
      software: 'test',
      log: SILENT,
      trust,
      transport: () => ({ setAuthenticated: () => undefined, disconnect: (of) => void ended.push(of) }),
      send: () => undefined,
      underlayFault: async () => undefined,
      onAdmitted: async (item) => item,
      onUp: () => undefined,
      onHandshake: () => undefined,
      onRefused: () => undefined
    })
    const take = (cluster: TestCluster) => trust.admit(peer, world.agent(cluster, 1, nodeSeed).item)
    const learn = (thing: Thing) => {
      const opened = trust.members.set.open(thing.item)
      trust.learn(opened.kind === 'item' ? [opened] : [])
    }
    take(east)
    links.neighbours.add(peer, { inbound: true, address: '/ip4/203.0.113.12/tcp/7946' }, 0)
    while (!links.judge(false));
    assert.deepEqual(ended, [])
    return { links, ended, take, learn }
  }

  it('stay through a rotation, whose two frames come before and after a look', () => {
    const { links, ended, take, learn } = linked()
    learn(rotated)
    assert.equal(links.judge(false), false, 'the first look waits')
    take(rotated)
    assert.equal(links.judge(false), false, 'the set has changed again')
    assert.equal(links.judge(false), true)
    assert.deepEqual(ended, [])
    assert.equal(links.judge(false), false, 'nothing has changed since')
  })

  it('go at the second look where no credential of the new key has come', () => {
    const { links, ended, learn } = linked()
    learn(rotated)
    links.judge(false)
    assert.equal(links.judge(false), true)
    assert.deepEqual(ended, [peer])
  })

  it('go at once where this agent has made the change itself', () => {
    const { links, ended, learn } = linked()
    learn(rotated)
    assert.equal(links.judge(true), true)
    assert.deepEqual(ended, [peer])
  })
})
