// The exchange between honest members, for any history, topology, loss, partition and restart: their sets become equal
// (P7), and silence changes nothing (P9).
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { BOUNDS, type Bounds } from '../../../../src/core/trust/set/bounds.ts'
import type { StatementId } from '../../../../src/core/trust/set/ids.ts'
import { summary } from '../set/scenarios.ts'
import { History, steps } from '../set/history.ts'
import { look, RULES, type Thing } from '../set/world.ts'
import { type Member, VirtualMesh, type MeshOptions } from './virtual-mesh.ts'

const RUNS = { numRuns: 30 }
const MINUTE = 60_000

/** Bounds that a short history exceeds, but for those of seats, which heal by exchange only. */
const TIGHT: Bounds = {
  ...BOUNDS,
  smallStatements: 5,
  largeStatements: 1,
  claimantsOfInvite: 2,
  clusters: 4,
  barsOfCluster: 1
}

describe('the exchange of the trust set, for any history', () => {
  it('makes all sets equal, over any topology, with loss, partitions and restarts (P7)', () => {
    fc.assert(
      fc.property(steps(), fc.infiniteStream(fc.nat(9999)), (list, numbers) => {
        const { history, mesh } = lived(list, numbers)
        settle(mesh)
        const all = everything(history.things, mesh)
        for (const member of mesh.members) assert.deepEqual(member.ids(), all)
        noOffence(mesh)
      }),
      RUNS
    )
  })

  it('makes them equal with answers in small parts and short queues', () => {
    const limits = {
      idsOfFrame: 3,
      wantIds: 2,
      itemsOfFrame: 2,
      itemsPerCall: 1,
      queueItems: 4,
      answerBytes: 3000
    }
    fc.assert(
      fc.property(steps(), fc.infiniteStream(fc.nat(9999)), (list, numbers) => {
        const { history, mesh } = lived(list, numbers, { limits: { ...limits, roundsMax: 1 } })
        settle(mesh, 10 * MINUTE)
        const all = everything(history.things, mesh)
        for (const member of mesh.members) assert.deepEqual(member.ids(), all)
        noOffence(mesh)
      }),
      RUNS
    )
  })

  it('makes them equal at the bounds, too', () => {
    fc.assert(
      fc.property(steps(), fc.infiniteStream(fc.nat(9999)), (list, numbers) => {
        const { mesh } = lived(list, numbers, { bounds: TIGHT })
        settle(mesh, 10 * MINUTE)
        const [first, ...others] = mesh.members
        for (const other of others) assert.deepEqual(other.ids(), first?.ids())
        noOffence(mesh)
      }),
      RUNS
    )
  })

  it('brings an old store to the current state (P7)', () => {
    fc.assert(
      fc.property(steps(), fc.nat(1000), (list, at) => {
        const history = new History().run(list)
        const mesh = new VirtualMesh(history.world)
        const [current, old] = [mesh.member(), mesh.member()]
        for (const thing of history.things) current.add(thing)
        for (const thing of history.things.slice(0, at % history.things.length)) old.add(thing)
        old.own.length = 0
        mesh.run(5000)
        old.restart()
        mesh.link(current, old)
        const took = mesh.run(5000, () => old.inStep.length > 0)
        assert.ok(took < 5000)
        assert.deepEqual(old.ids(), current.ids())
        assert.deepEqual([...old.disk.keys()].sort(), old.ids())
        assert.deepEqual(summary(look(old.set)), summary(look(current.set)))
      }),
      RUNS
    )
  })

  it('changes nothing while all neighbours are silent (P9)', () => {
    const history = new History().run([{ what: 'join', a: 0, b: 0, c: 0 }])
    const mesh = new VirtualMesh(history.world)
    const [one, other] = [mesh.member(), mesh.member()]
    for (const thing of history.things) one.add(thing)
    mesh.link(one, other)
    mesh.run(5000)
    mesh.cut(one, other)
    const before = [one.ids(), [...one.disk.keys()], summary(look(one.set))]
    mesh.run(24 * 60 * MINUTE)
    assert.deepEqual([one.ids(), [...one.disk.keys()], summary(look(one.set))], before)
    assert.deepEqual(other.ids(), one.ids())
  })
})

/** Members that signed a history here and there, while links came and went, frames were lost and members restarted. */
function lived(
  list: Parameters<History['run']>[0],
  numbers: Iterator<number>,
  options: MeshOptions = {}
): { readonly history: History; readonly mesh: VirtualMesh } {
  const number = (below: number) => (numbers.next().value ?? 0) % below
  const history = new History().run(list)
  let lossy = true
  const mesh = new VirtualMesh(history.world, { ...options, loses: () => lossy && number(10) === 0 })
  const members = Array.from({ length: 2 + number(5) }, () => mesh.member())
  const any = () => members[number(members.length)] as Member
  // A tree keeps them connected; further links make it any topology.
  const tree = members.slice(1).map((member, at) => [member, members[number(at + 1)] as Member] as const)
  const connect = () => {
    for (const [one, other] of tree) mesh.link(one, other)
  }
  connect()
  for (let extra = number(4); extra > 0; extra--) mesh.link(any(), any())
  for (const thing of history.things) {
    any().add(thing)
    mesh.run(number(400))
    const event = number(12)
    if (event === 0) mesh.cut(any(), any())
    if (event === 1) any().restart()
    if (event === 2) connect()
    if (event === 3) mesh.link(any(), any())
  }
  connect()
  lossy = false
  return { history, mesh }
}

/** Lets the members exchange until their sets are equal, and for a while after that. */
function settle(mesh: VirtualMesh, ms = 3 * MINUTE): void {
  const equal = () => new Set(mesh.members.map((member) => member.ids().join())).size === 1
  let left = ms
  while (left > 0 && !equal()) left -= mesh.run(1000) || 1000
  mesh.run(20_000)
}

/** The ids of a set that was given everything at once. */
function everything(things: readonly Thing[], mesh: VirtualMesh): readonly StatementId[] {
  const set = mesh.world.set(RULES)
  for (const { item } of things) set.add(item)
  return [...set.ids()].sort()
}

function noOffence(mesh: VirtualMesh): void {
  for (const { offences } of mesh.members) assert.deepEqual(offences, [])
}
