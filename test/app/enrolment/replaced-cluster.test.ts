// Which cluster an invite replaces, and which requests are refused before anything is signed.
import assert from 'node:assert/strict'
import { replacedCluster } from '../../../src/app/enrolment/replaced-cluster.ts'
import type { CurrentSession } from '../../../src/app/session/current-session.ts'
import { createMembers } from '../../../src/core/trust/members/members.ts'
import { type Thing, World } from '../../core/trust/set/world.ts'

describe('the cluster that an invite replaces', () => {
  const world = new World()
  const seat = world.seat()
  const west = world.found('west', ['10.1.0.0/16'])
  const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'], services: ['10.102.0.0/16'] })
  const base: readonly Thing[] = [seat, west, east]

  /** The agent of west, which knows these statements. `up`: the tunnel to this cluster answers. */
  const at = (things: readonly Thing[], up = '') => {
    const { crypto, roots } = world
    const members = createMembers({ crypto, roots, owners: new Map(), generations: new Map() })
    const opened = things.map(({ item }) => members.set.open(item))
    members.addItems(opened.filter((item) => item.kind === 'item'))
    const session = {
      control: { members, view: () => ({ clusters: new Map([[up, { agents: [{ origin: 'gw' }] }]]) }) },
      paths: { tunnels: { health: () => 'up' } }
    }
    return { required: () => session, membership: { clusterSeed: west.seed } } as unknown as CurrentSession
  }
  const find = (current: CurrentSession, name = 'east', more: { force?: boolean; mayBeOwn?: boolean } = {}) =>
    replacedCluster({ current, crypto: world.crypto }, { name, force: false, mayBeOwn: false, ...more })

  it('is the one that stands, with the prefixes that it has now', () => {
    const granted = world.grant(seat, east, { pods: ['10.22.0.0/16'], drop: ['10.102.0.0/16'] })
    assert.deepEqual(find(at([...base, granted])), {
      key: east.key,
      name: 'east',
      podPrefixes: ['10.2.0.0/16', '10.22.0.0/16'],
      servicePrefixes: [],
      namespaces: []
    })
  })

  it('is not one that is unknown or has ended, whose name is free', () => {
    assert.throws(() => find(at(base), 'nowhere'), { code: 'UNKNOWN_CLUSTER' })
    assert.throws(() => find(at([...base, world.bar({ seat }, east)])), {
      code: 'UNKNOWN_CLUSTER',
      fix: 'its name is free: run `meshctl invite east` without --replace'
    })
  })

  it('is not one of several claimants before a decision, and the chosen one after it', () => {
    const other = world.join(seat, west, 2, 'east')
    const both = [...base, other]
    assert.throws(() => find(at(both)), { code: 'AMBIGUOUS_CLUSTER' })
    assert.equal(find(at([...both, world.decide(seat, 'east', other)])).key, other.key)
  })

  it('is not the own cluster, unless this agent redeems the invite itself', () => {
    assert.throws(() => find(at(base), 'west'), {
      code: 'OWN_CLUSTER',
      fix: /administrator in another cluster/
    })
    assert.equal(find(at(base), 'west', { mayBeOwn: true }).key, west.key)
  })

  it('is not one whose tunnel answers, unless that is forced', () => {
    assert.throws(() => find(at(base, 'east')), { code: 'STILL_ALIVE', fix: /--force/ })
    assert.equal(find(at(base, 'east'), 'east', { force: true }).key, east.key)
    assert.equal(find(at(base, 'edge')).key, east.key)
  })
})
