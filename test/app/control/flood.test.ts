// Six members that flood one agent with frames that no honest agent sends, over real connections.
import assert from 'node:assert/strict'
import { eventually } from '../../eventually.ts'
import { dial, startControls, type Controls } from './controls.ts'

const FLOOD_BYTES_PER_SECOND = 4 * 1024 * 1024
const TICK_MS = 50
const ENDED_MS = 2000

describe('a flood of bad frames', () => {
  let controls: Controls | undefined
  let timer: NodeJS.Timeout | undefined

  afterEach(async () => {
    clearInterval(timer)
    await controls?.stop()
  })

  it('ends the connections of all six attackers within 2 s, and of no honest neighbour', async () => {
    controls = await startControls(9)
    const [victim, ...others] = controls.all
    assert.ok(victim)
    const [honest, attackers] = [others.slice(0, 2), others.slice(2)]
    await dial(others, victim)
    const ended = () => victim.events.rows().filter(({ kind }) => kind === 'disconnected')
    const junk = new Uint8Array(16 * 1024).fill(0xff)
    const framesPerTick = (FLOOD_BYTES_PER_SECOND / junk.length) * (TICK_MS / 1000)
    // The clock of the test: on a starved machine both the flood and its victim stand still, and so does this clock.
    let ticks = 0
    timer = setInterval(() => {
      ticks++
      for (const { transport } of attackers)
        for (let index = 0; index < framesPerTick; index++) transport.send(victim.origin, junk)
    }, TICK_MS)
    await eventually(() => attackers.every(({ origin }) => victim.isBanned(origin)))
    assert.ok(ticks * TICK_MS <= ENDED_MS, `the flood lasted ${ticks * TICK_MS} ms`)
    assert.deepEqual(victim.neighbours().toSorted(), honest.map(({ origin }) => origin).toSorted())
    assert.deepEqual(
      ended()
        .map(({ peerId }) => peerId)
        .toSorted(),
      attackers.map(({ origin }) => origin).toSorted()
    )
    const banned = victim.events.rows().filter(({ kind }) => kind === 'banned')
    assert.equal(banned.length, 6)
    assert.deepEqual(
      new Set(banned.map(({ cluster }) => cluster)),
      new Set(['c3', 'c4', 'c5', 'c6', 'c7', 'c8'])
    )
    // They dial again, and are refused while the ban lasts.
    const [one] = attackers
    await eventually(() => (one?.transport.dialState()[0]?.attempts ?? 0) > 2)
    assert.equal(victim.neighbours().length, 2)
    assert.ok(
      victim.events.rows().some(({ kind, reason }) => kind === 'refused' && reason === 'malformed frame')
    )
  })
})
