import assert from 'node:assert/strict'
import { tunnelState, withdrawn, type TunnelFacts } from '../../src/core/liveness.ts'

const start = 1_700_000_000_000
const facts = (more: Partial<TunnelFacts>): TunnelFacts => ({
  nowMs: start,
  firstSeenMs: start,
  lastHandshakeMs: undefined,
  lastProbeReplyMs: undefined,
  keepaliveSeconds: 15,
  ...more
})
const at = (seconds: number) => start + seconds * 1000

describe('a tunnel', () => {
  // seconds since first seen: now, last handshake, last probe reply, state
  const rows: readonly [number, number | undefined, number | undefined, string][] = [
    [0, undefined, undefined, 'connecting'],
    [15, undefined, undefined, 'connecting'],
    [16, undefined, undefined, 'down'],
    [16, 15, undefined, 'up'],
    [195, 0, undefined, 'up'],
    [196, 0, undefined, 'down'],
    [20, 2, 19, 'up'],
    [24, 2, 19, 'up'],
    [25, 2, 19, 'down'],
    [600, 2, 599, 'up'],
    [10, 12, 13, 'up']
  ]
  for (const [now, handshake, reply, state] of rows) {
    const title = `seen for ${now} s, handshake ${handshake ?? 'never'}, probe reply ${reply ?? 'never'}: ${state}`
    it(title, () => {
      const result = tunnelState(
        facts({
          nowMs: at(now),
          lastHandshakeMs: handshake === undefined ? undefined : at(handshake),
          lastProbeReplyMs: reply === undefined ? undefined : at(reply)
        })
      )
      assert.equal(result.state, state)
      assert.equal('reason' in result && result.reason.length > 0, state !== 'up')
    })
  }

  for (const [received, state] of [
    [28, 'up'],
    [15, 'up'],
    [14, 'down']
  ] as const) {
    it(`whose agent fell silent 11 s ago and from which bytes last came at ${received} s of 30 s: ${state}`, () => {
      const silent = { nowMs: at(30), lastHandshakeMs: at(2), lastProbeReplyMs: at(19) }
      assert.equal(tunnelState(facts({ ...silent, lastReceivedMs: at(received) })).state, state)
    })
  }

  it('without keepalives is not called down for being idle', () => {
    const idle = facts({ nowMs: at(1000), lastHandshakeMs: at(1), keepaliveSeconds: 0 })
    assert.equal(tunnelState(idle).state, 'connecting')
  })
})

describe('a cluster', () => {
  const dead = { tunnel: 'down' as const, gossipSilentMs: 60_000 }
  const silent = { tunnel: 'up' as const, gossipSilentMs: 3_600_000 }
  const untunnelled = { tunnel: 'down' as const, gossipSilentMs: 100 }
  const connecting = { tunnel: 'connecting' as const, gossipSilentMs: 60_000 }

  it('is never withdrawn for gossip silence alone', () => assert.equal(withdrawn([silent]), false))
  it('is never withdrawn for a dead tunnel alone', () => assert.equal(withdrawn([untunnelled]), false))
  it('is not withdrawn while its tunnel connects', () => assert.equal(withdrawn([connecting]), false))
  it('is withdrawn when tunnel and gossip are both dead', () => assert.equal(withdrawn([dead]), true))
  it('is not withdrawn while one of its gateways lives', () => assert.equal(withdrawn([dead, silent]), false))
  it('is withdrawn when all of its gateways are dead', () => assert.equal(withdrawn([dead, dead]), true))
})
