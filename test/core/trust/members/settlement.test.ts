// What the view reads: names and prefixes in force.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { compareCidr } from '../../../../src/core/model/cidr.ts'
import { compareClusters } from '../../../../src/core/trust/members/settlement.ts'
import { clusterName } from '../fixtures.ts'
import { History, steps } from '../set/history.ts'
import { addThings, membersOf, twoSeats } from './people.ts'

describe('the settlement', () => {
  it('is the ownership, for any history', () => {
    fc.assert(
      fc.property(steps(), (list) => {
        const history = new History().run(list)
        const members = membersOf(history.world, history.things)
        const [settlement, ownership] = [members.settlement(), members.ownership()]
        assert.deepEqual(
          new Map(Array.from(settlement, ([name, { clusterKey }]) => [name, clusterKey])),
          ownership.names
        )
        for (const [name, settled] of settlement) {
          assert.equal(settled.cluster, name)
          const prefixes = ownership.prefixes.get(settled.clusterKey)
          assert.deepEqual(settled.podPrefixes, prefixes?.pods)
          assert.deepEqual(settled.servicePrefixes, prefixes?.services)
          assert.deepEqual(settled.podPrefixes, settled.podPrefixes.toSorted(compareCidr))
          const shown = settled.conflicts.filter(({ what }) => what !== 'name').length
          const lost = ownership.contested.filter(
            ({ what, loser }) => what !== 'name' && loser === settled.clusterKey
          )
          assert.equal(shown, new Set(lost.map(({ what, value }) => `${what} ${value}`)).size)
          const contested = ownership.contested.some(({ what, value }) => what === 'name' && value === name)
          assert.equal(
            settled.conflicts.some(({ what }) => what === 'name'),
            contested
          )
        }
      }),
      { numRuns: 60 }
    )
  })

  it('shows a contested prefix at the cluster that lacks it, and a contested name at the one that has it', () => {
    const { world, west, ann, things } = twoSeats()
    const members = membersOf(world, things)
    const north = world.join(ann, west, 5, 'north', { pods: ['10.2.128.0/17', '10.8.0.0/16'] })
    const rival = world.join(ann, west, 6, 'east', { pods: ['10.9.0.0/16'] })
    addThings(members, [north, rival])
    const settled = members.settlement()
    const [east, lost] = [settled.get(clusterName('east')), settled.get(clusterName('north'))]
    assert.deepEqual(lost?.conflicts, [{ what: 'podPrefix', value: '10.2.128.0/17', winner: 'east' }])
    assert.deepEqual(lost?.podPrefixes, ['10.8.0.0/16'])
    assert.deepEqual(east?.conflicts, [{ what: 'name', value: 'east', winner: 'east' }])
    assert.deepEqual(east?.podPrefixes, ['10.2.0.0/16'])
  })

  it('keeps the object of a cluster that did not change', () => {
    const { world, west, ann, east, things } = twoSeats()
    const members = membersOf(world, things)
    const before = members.settlement()
    assert.equal(members.settlement(), before)
    addThings(members, [
      world.join(ann, west, 5, 'north'),
      world.grant(ann, east, { pods: ['10.20.0.0/16'] })
    ])
    const now = members.settlement()
    assert.notEqual(now, before)
    assert.equal(now.get(clusterName('berlin')), before.get(clusterName('berlin')))
    assert.deepEqual(now.get(clusterName('east'))?.podPrefixes, ['10.2.0.0/16', '10.20.0.0/16'])
  })

  it('orders clusters by the place that they have or took over', () => {
    const { world, west, ann, east, things } = twoSeats()
    const later = world.join(ann, west, 9, 'east', { pods: ['10.2.0.0/16'], replaces: east })
    const members = membersOf(world, [...things, later])
    assert.deepEqual(
      [...members.settlement().values()].sort(compareClusters).map(({ cluster }) => cluster as string),
      ['west', 'east', 'berlin']
    )
    assert.equal(members.settlement().get(clusterName('east'))?.clusterKey, later.key)
  })
})
