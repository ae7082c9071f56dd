// What no agent can settle alone: whose clock is right, and who is to be upgraded.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { podCidr, serviceCidr, wanAddress } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { forgedToken } from './forged-token.ts'
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

const YEAR_MS = 365 * 86_400_000

describe('clock and version', () => {
  const { site } = raise('clock', ['west', 'east'], { start: false })
  const west = () => site('west')
  const east = () => site('east')

  before(async () => {
    await west().start()
    await init(west())
  })

  it('a newcomer with a wrong clock is told so when the sponsor refuses its token, and nothing is kept', async () => {
    await east().startUnder(shifted({ CLOCK_SHIFT_MS: String(-YEAR_MS) }))
    const prefixes = [podCidr('east'), serviceCidr('east')] as const
    const token = forgedToken(west(), { cluster: 'east', prefixes, agedSeconds: 7200 })
    const text = await refused(east().ctl('join', token))
    assert.match(
      text,
      /invite of east expired .* ago, at .*; the sponsor's clock says .*, and the newcomer's is 36\d days behind/
    )
    assert.match(text, /fix: ask for a new token/)
    assert.equal((await status(east())).state, 'unjoined')
    assert.equal(await marks(east()), '')
  })

  it('a newcomer whose clock is a year behind joins with a good token: the clock of the sponsor decides', async () => {
    await joins(east(), await invite(west(), 'east'))
    await reaches(east(), west())
    await east().stop('SIGTERM')
  })

  it('a member whose clock jumps by a year keeps its tunnels and connections', async () => {
    await east().startUnder(shifted({ CLOCK_SHIFT_MS: String(YEAR_MS), CLOCK_SHIFT_LATER: '1' }))
    await reaches(east(), west())
    await reaches(west(), east())
    const before = [east(), west()].map((each) => each.tail(1000).length)
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
    for (const [index, each] of [east(), west()].entries())
      assert.doesNotMatch(each.tail(1000).slice(before[index]), /withdrawn|neighbour down/)
  })

  it('a member whose clock is a year ahead connects again: a known cluster is never refused for time', async () => {
    await west().stop('SIGKILL')
    await undisturbed(east(), west(), async () => {
      await west().start()
      await inStep(west())
      await announce(east(), 'a-year-ahead').seen(west())
      await announce(west(), 'a-year-behind').seen(east())
    })
    assert.equal((await status(east())).refused['handshake clock'], undefined)
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
    assert.match(
      stdout,
      /the dialling agent speaks protocol 3–4, the dialled agent protocol 2; upgrade the dialled agent/
    )
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
