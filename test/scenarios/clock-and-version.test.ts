// What no agent can settle alone: whose clock is right, and who is to be upgraded.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { StatusAnswer } from '../../src/api/answers.ts'
import { wanAddress } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import {
  announce,
  init,
  inStep,
  invite,
  joins,
  marks,
  peer,
  raise,
  reaches,
  refused,
  status,
  undisturbed
} from './harness.ts'

const HOUR_MS = 3_600_000
const YEAR_MS = 365 * 24 * HOUR_MS

describe('clock and version', () => {
  const { site } = raise('clock', ['west', 'east'], { start: false })
  const west = () => site('west')
  const east = () => site('east')

  before(async () => {
    await west().start()
    await init(west())
  })

  const wrong: readonly { what: string; shiftMs: number; says: RegExp }[] = [
    {
      what: 'a year ahead',
      shiftMs: YEAR_MS,
      says: /invite of east expired 36\d days ago, at .*; this clock says [^]*fix: .*correct it/
    },
    {
      what: 'a year behind',
      shiftMs: -YEAR_MS,
      says: /invite of east becomes valid in 36\d days, at .*; this clock says [^]*fix: Correct the clock of this host/
    },
    {
      what: 'an hour ahead',
      shiftMs: HOUR_MS,
      says: /the clocks differ: the clock of the peer .* is (5\d|60) minutes ahead of that of this agent/
    }
  ]
  for (const { what, shiftMs, says } of wrong) {
    it(`a newcomer whose clock is ${what} is told so, and nothing is kept`, async () => {
      await east().startUnder(shifted({ CLOCK_SHIFT_MS: String(shiftMs) }))
      const text = await refused(east().ctl('join', await invite(west(), 'east')))
      assert.match(text, says)
      assert.equal((await status(east())).state, 'unjoined')
      assert.equal(await marks(east()), '')
      await east().stop('SIGTERM')
    })
  }

  it('a member whose clock jumps by a year keeps its tunnels and connections', async () => {
    await east().startUnder(shifted({ CLOCK_SHIFT_MS: String(YEAR_MS), CLOCK_SHIFT_LATER: '1' }))
    await joins(east(), await invite(west(), 'east'))
    await reaches(east(), west())
    await reaches(west(), east())
    await undisturbed(west(), east(), async () => {
      await undisturbed(east(), west(), async () => {
        process.kill(east().pid ?? 0, 'SIGUSR2')
        const jumped = performance.now()
        await announce(east(), 'jumped').seen(west())
        await announce(west(), 'jumped').seen(east())
        await eventually(() => performance.now() - jumped > 3000) // three looks at every tunnel
        for (const [from, to] of [
          [west(), 'east'],
          [east(), 'west']
        ] as const) {
          const row = await peer(from, to)
          assert.equal(row?.state, 'up', row?.reason)
          assert.equal(row?.connected, true)
        }
      })
    })
    assert.doesNotMatch(east().tail(1000) + west().tail(1000), /withdrawn|neighbour down/)
  })

  it('where the wrong clock ends the control connection, the tunnel lives on and status counts the reason', async () => {
    await west().stop('SIGKILL')
    await undisturbed(east(), west(), async () => {
      await west().start()
      await eventually(async () => handshakes(await status(east())) > 0)
      assert.match(east().tail(1000), /the clocks differ: .* 36\d days (behind|ahead of) that of this agent/)
      assert.equal((await peer(east(), 'west'))?.state, 'up')
      await inStep(west())
    })
    await east().stop('SIGTERM')
    await east().start()
    await announce(east(), 'clock-is-set').seen(west())
  })

  it('a peer of a newer protocol version is told who is to be upgraded; the agent counts it and lives on', async () => {
    const before = (await status(west())).refused['handshake version'] ?? 0
    const { peers } = await west().ask<{ peers: { cluster: string; peerId: string }[] }>('peers')
    const id = peers.find(({ cluster }) => cluster === 'west')?.peerId
    const address = `/ip4/${wanAddress('west')}/tcp/7946/p2p/${id}`
    const { stdout } = await east().gateway.exec([
      process.execPath,
      join(import.meta.dirname, 'newer-peer.ts'),
      address
    ])
    assert.match(stdout, /the peer speaks protocol 2–3, and this agent protocol 1: upgrade this agent/)
    await eventually(async () => {
      assert.equal((await status(west())).refused['handshake version'], before + 1)
      return true
    })
    await announce(east(), 'lives-on').seen(west())
  })
})

function shifted(variables: Readonly<Record<string, string>>): string[] {
  const preload = join(import.meta.dirname, 'shifted-clock.ts')
  return [
    'env',
    ...Object.entries(variables).map(([name, value]) => `${name}=${value}`),
    `NODE_OPTIONS=--import=${preload}`
  ]
}

function handshakes({ refused: counts }: StatusAnswer): number {
  return counts['handshake clock'] ?? 0
}
