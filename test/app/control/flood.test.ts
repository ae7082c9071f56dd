// Six members that flood one agent with frames that no honest agent sends, over real connections.
import assert from 'node:assert/strict'
import { eventually } from '../../eventually.ts'
import { dial, startControls, type Controls } from './controls.ts'

const FLOOD_BYTES_PER_SECOND = 4 * 1024 * 1024
const TICK_MS = 50

describe('a flood of bad frames', () => {
  let controls: Controls | undefined
  let timer: NodeJS.Timeout | undefined

  afterEach(async () => {
    clearInterval(timer)
    await controls?.stop()
  })

  // No time is measured, and connections may break by themselves: a starved machine breaks them, and lets bans end before the last one begins.
  it('bans all six attackers, and no honest neighbour', async () => {
    controls = await startControls(9)
    const [victim, ...others] = controls.all
    assert.ok(victim)
    const [honest, attackers] = [others.slice(0, 2), others.slice(2)]
    await dial(others, victim)
    const junk = new Uint8Array(16 * 1024).fill(0xff)
    const framesPerTick = (FLOOD_BYTES_PER_SECOND / junk.length) * (TICK_MS / 1000)
    timer = setInterval(() => {
      for (const { transport } of attackers)
        for (let index = 0; index < framesPerTick; index++) transport.send(victim.origin, junk)
    }, TICK_MS)
    const banned = new Set<unknown>()
    await eventually(() => {
      for (const { kind, cluster } of victim.events.rows()) if (kind === 'banned') banned.add(cluster)
      return banned.size >= attackers.length
    })
    clearInterval(timer)
    assert.deepEqual(banned, new Set(['c3', 'c4', 'c5', 'c6', 'c7', 'c8']))
    await eventually(() => honest.every(({ origin }) => victim.neighbours().includes(origin)))
    assert.ok(
      victim.events
        .rows()
        .some(
          ({ kind, peerId }) => kind === 'disconnected' && attackers.some(({ origin }) => origin === peerId)
        )
    )
    // They dial again, and are refused while the ban lasts.
    const [one] = attackers
    await eventually(() => (one?.transport.dialState()[0]?.attempts ?? 0) > 2)
    assert.ok(
      victim.events.rows().some(({ kind, reason }) => kind === 'refused' && reason === 'malformed frame')
    )
  })
})
