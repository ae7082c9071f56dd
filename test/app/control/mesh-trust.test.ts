import assert from 'node:assert/strict'
import type { Origin } from '../../../src/core/model/values.ts'
import { openCredential } from '../../../src/core/trust/members/credential.ts'
import { isTrustFrame } from '../../../src/core/trust/exchange/exchange.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { eventually } from '../../eventually.ts'
import { World } from '../../core/trust/set/world.ts'
import { trustOf } from './trust-parts.ts'

const world = new World({ crypto: createCrypto() })
const seat = world.seat()
const west = world.found('west', ['10.1.0.0/16'])
const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'] })
const bar = world.bar({ seat }, east)
const peer = 'peer' as Origin

describe('the trust set of an agent', () => {
  it('has a statement of its own on disk before any neighbour sees it', async () => {
    const { trust, sent } = trustOf(world, [west, east])
    trust.peerUp(peer, undefined)
    await trust.add([bar.item])
    const told = sent.filter(
      ({ frame }) => isTrustFrame(frame) && Buffer.from(frame).includes(Buffer.from(bar.item.slice(-64)))
    )
    assert.ok(told.length > 0, 'it was told')
    for (const { onDisk } of told) assert.ok(onDisk.includes(bar.id))
  })

  it('neither adds nor tells a statement of its own that the disk does not take', async () => {
    const { trust, sent, state } = trustOf(world, [west, east])
    trust.peerUp(peer, undefined)
    const before = sent.length
    state.isFull = true
    await assert.rejects(trust.add([bar.item]), /disk is full/)
    assert.equal(sent.length, before)
    assert.equal(trust.members.standing().clusters.get(east.key)?.verdict.stands, true)
    assert.match(trust.diskFault ?? '', /disk is full/)
  })

  it('refuses a statement of its own that no member would take, which is a fault of the program', async () => {
    const { trust, disk } = trustOf(world, [west])
    await assert.rejects(trust.add([east.item.slice(0, -1)]), /our own .* is refused/)
    assert.equal(disk.size, 0)
  })

  it('writes what explains a refusal and what a credential brings, and tells them to the neighbours', async () => {
    const { trust, disk, sent } = trustOf(world, [west])
    trust.peerUp(peer, undefined)
    const agent = openCredential(trust.members.set, world.agent(east, 1).item)
    assert.ok(agent.kind === 'credential')
    const before = sent.length
    assert.equal(trust.addCredential(agent).kind, 'admitted')
    await trust.idle
    assert.ok(disk.has(east.id))
    assert.ok(sent.length > before)
    const opened = trust.members.set.open(bar.item)
    assert.ok(opened.kind === 'item')
    trust.learn([opened])
    await trust.idle
    assert.ok(disk.has(bar.id))
    assert.equal(trust.members.isAdmitted(agent.origin), false)
  })

  it('starts with what the disk has, and drops what is damaged there', () => {
    const damaged = { ...bar, item: bar.item.slice(0, -1) }
    const { trust } = trustOf(world, [east, west, damaged])
    assert.deepEqual(
      [...trust.members.standing().clusters.keys()].toSorted(),
      [east.key, west.key].toSorted()
    )
  })

  it('makes two sets equal, whatever each begins with', async () => {
    const [one, two] = [trustOf(world, [west, east]), trustOf(world, [west])]
    const [atOne, atTwo] = ['one' as Origin, 'two' as Origin]
    one.trust.peerUp(atTwo, undefined)
    two.trust.peerUp(atOne, undefined)
    let nowMs = performance.now()
    await eventually(() => {
      for (const { frame } of one.sent.splice(0)) two.trust.receive(atOne, frame)
      for (const { frame } of two.sent.splice(0)) one.trust.receive(atTwo, frame)
      nowMs += 200
      one.trust.tick(nowMs)
      two.trust.tick(nowMs)
      return one.inStep.length > 0 && two.inStep.length > 0
    })
    assert.equal(two.trust.members.standing().clusters.get(east.key)?.verdict.stands, true)
    assert.deepEqual([one.offences, two.offences], [[], []])
    await two.trust.idle
    assert.ok(two.disk.has(east.id))
  })

  it('writes the whole set again when the store has lost it', async () => {
    const { trust, disk } = trustOf(world, [west, east])
    assert.equal(disk.size, 0)
    trust.rewrite()
    await trust.idle
    assert.ok(disk.has(west.id) && disk.has(east.id))
  })
})
