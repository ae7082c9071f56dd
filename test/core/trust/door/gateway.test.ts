// A host becomes one more gateway of a cluster: its request, the door of the gateway that made the token, and the decision.
import assert from 'node:assert/strict'
import type { ClusterName, Origin } from '../../../../src/core/model/values.ts'
import { createGatewayRequest, type GatewayOutcome } from '../../../../src/core/trust/door/gateway-request.ts'
import type { GatewayGift } from '../../../../src/core/trust/door/frames.ts'
import { type GatewayInvite, judgeGateway } from '../../../../src/core/trust/door/judge-gateway.ts'
import type { GatewayAnswer, HandshakeOutcome } from '../../../../src/core/trust/door/port.ts'
import { keyId } from '../../../../src/core/trust/set/ids.ts'
import { decodeFrame, encodeFrame } from '../../../../src/core/wire/messages.ts'
import { type Actor, contains, DoorWorld, keyOf, NOW_MS, rewrite, type Tampers } from './door-world.ts'

const world = new DoorWorld()
const seat = world.seat()
const west = world.found('west', ['10.1.0.0/16'])
const east = world.join(seat, west, 1, 'east', { pods: ['10.2.0.0/16'] })

interface Options {
  readonly seed?: Uint8Array
  readonly knows?: boolean
  readonly at?: Actor
  /** Changes the frames of the new gateway, and those of the gateway that is asked. */
  readonly tamper?: Tampers
  readonly gift?: Partial<GatewayGift>
  readonly token?: Partial<ReturnType<typeof tokenOf>>
  readonly answer?: GatewayAnswer
  /** The PeerId that the door believes to talk to. */
  readonly seenAs?: Origin
}

function tokenOf(name = 'west', cluster = west, seed = world.crypto.random(32)) {
  return {
    roots: world.roots,
    cluster: name as ClusterName,
    clusterKey: keyOf(world, cluster.seed),
    seed
  }
}

/** Carries the frames of one request both ways. */
function ask(options: Options = {}) {
  const token = { ...tokenOf(), ...options.token }
  const key = world.crypto.publicKeyOf(token.seed)
  const origin = world.originOf(options.seed ?? world.crypto.random(32))
  const at: Actor = {
    ...(options.at ?? world.member(west)),
    gateways: new Set(options.knows === false ? [] : [keyId(key)])
  }
  const gift = {
    clusterSeed: west.seed,
    item: west.item,
    bootstrap: [],
    generation: 3,
    realPrefixes: [],
    ...options.gift
  }
  const request = createGatewayRequest({
    crypto: world.crypto,
    token,
    self: { origin, software: 'rhizome/test' },
    remote: at.origin,
    nowMs: NOW_MS
  })
  const door = world.open(at, options.seenAs ?? origin, false)
  const sent: [Uint8Array[], Uint8Array[]] = [[], []]
  let mine: GatewayOutcome | undefined
  let theirs: HandshakeOutcome | undefined
  const send = (from: 0 | 1, frames: readonly Uint8Array[]): void => {
    for (const frame of frames) {
      sent[from].push(frame)
      const message = decodeFrame(frame)
      assert.ok(message)
      const carried = options.tamper?.[from]?.(message, frame) ?? frame
      if (from === 0) {
        const { send: replies, outcome } = door.receive(carried, NOW_MS)
        theirs = outcome ?? theirs
        send(1, replies)
        if (outcome?.kind === 'gatewayKnock')
          send(1, door.answer(options.answer ?? { kind: 'gateway', gift }).send)
      } else {
        const { send: replies, outcome } = request.receive(carried)
        mine = outcome ?? mine
        send(0, replies)
      }
    }
  }
  send(0, request.start())
  return { mine, theirs, sent, token, key, request, door }
}

const codeOf = (outcome: GatewayOutcome | HandshakeOutcome | undefined): string =>
  outcome?.kind === 'refused' ? outcome.code : (outcome?.kind ?? 'nothing')

describe('a new gateway of a cluster', () => {
  it('gets the key of the cluster, its admission and the generation, and its own secret is in no frame', () => {
    const { mine, theirs, sent, token, key } = ask({ gift: { bootstrap: ['/ip4/192.0.2.1/tcp/1', 'x'] } })
    assert.ok(mine?.kind === 'given' && theirs?.kind === 'gatewayKnock')
    assert.equal(keyId(theirs.key), keyId(key))
    assert.equal(keyId(mine.secret.clusterSeed), keyId(west.seed))
    assert.equal(mine.generation, 3)
    assert.ok(mine.secret.membership.kind === 'member')
    assert.equal(keyId(mine.secret.membership.item), keyId(west.item))
    assert.deepEqual([mine.secret.seats, mine.secret.rootSeeds, mine.secret.bootstrap], [[], [], []])
    assert.ok(!contains(sent.flat(), token.seed))
  })

  it('of an invited cluster gets its admission', () => {
    const { mine } = ask({
      token: tokenOf('east', east),
      at: world.member(east, [west, east]),
      gift: { clusterSeed: east.seed, item: east.item }
    })
    assert.ok(mine?.kind === 'given' && mine.secret.membership.kind === 'member')
    assert.equal(mine.secret.membership.place.seen, 1)
  })

  it('signs nothing before the dialled agent has proved to be of that cluster key and that mesh', () => {
    const other = new DoorWorld(2)
    const elsewhere = other.member(other.found('west', ['10.1.0.0/16']))
    const lookalike = world.join(seat, west, 2, 'west')
    const cases: readonly (readonly [string, Options])[] = [
      ['certificate', { at: world.member(east, [west, east]) }],
      ['replaced', { at: world.member(lookalike, [west, lookalike]) }],
      ['mesh', { at: elsewhere }],
      // The credential of another agent, which the connection does not belong to.
      ['certificate', { tamper: [undefined, rewrite('hello', { credential: world.agent(west, 1).item })] }],
      ['proof', { tamper: [undefined, rewrite('proof', { signature: new Uint8Array(64) })] }],
      ['proof', { tamper: [undefined, rewrite('hello', { unixSeconds: 1 })] }]
    ]
    for (const [code, options] of cases) {
      const { mine, sent } = ask(options)
      assert.equal(codeOf(mine), code)
      assert.ok(
        sent[0].every((frame) => decodeFrame(frame)?.gatewayKnock === null),
        code
      )
    }
  })

  it('refuses an answer that is not of the key in its token', () => {
    const wrong: readonly Partial<GatewayGift>[] = [
      { clusterSeed: east.seed },
      { item: east.item },
      { item: world.invite(seat, 'west').item },
      { item: new Uint8Array([1]) },
      { item: world.agent(west, 1).item }
    ]
    for (const gift of wrong) assert.equal(codeOf(ask({ gift }).mine), 'certificate')
    assert.equal(codeOf(ask({ gift: { clusterSeed: new Uint8Array(31) } }).mine), 'protocol')
    assert.equal(codeOf(ask({ gift: { bootstrap: Array.from({ length: 33 }, () => 'x') } }).mine), 'protocol')
  })

  it('hears a refusal, and whether a gateway of its cluster has said it', () => {
    const answer: GatewayAnswer = { kind: 'reject', code: 'used', detail: 'used; ask', explain: [] }
    const { mine, theirs } = ask({ answer })
    assert.ok(mine?.kind === 'refused')
    assert.deepEqual([mine.code, mine.detail, mine.byPeer, mine.proved], ['used', 'used; ask', true, true])
    assert.equal(theirs?.kind, 'gatewayKnock')
    const unknown = ask({ knows: false })
    assert.ok(unknown.mine?.kind === 'refused' && !unknown.mine.proved)
  })

  it('takes nothing after the end', () => {
    const { request } = ask()
    assert.deepEqual(request.receive(encodeFrame({ ping: { id: 1 } })), { send: [] })
  })
})

describe('the door of a gateway that keeps an invite', () => {
  it('answers a key that it does not keep with one Reject, without its own Hello, and without a signature', () => {
    const { theirs, sent } = ask({ knows: false })
    assert.equal(codeOf(theirs), 'cancelled')
    assert.deepEqual(
      sent[1].map((frame) => decodeFrame(frame)?.reject !== null),
      [true]
    )
  })

  it('gives nothing for a signature of another key, of another connection, or with a changed Hello', () => {
    const earlier = decodeFrame(ask().sent[0].at(-1) ?? new Uint8Array())?.gatewayKnock?.signature
    assert.equal(earlier?.length, 64)
    const cases: readonly Options[] = [
      { tamper: [rewrite('gatewayKnock', { signature: new Uint8Array(64) })] },
      { tamper: [rewrite('gatewayKnock', { signature: earlier })] },
      { tamper: [rewrite('hello', { unixSeconds: 1 })] },
      // A relay that has the connection, and is not the agent that signed.
      { seenAs: world.originOf(world.crypto.random(32)) }
    ]
    for (const [at, options] of cases.entries()) {
      const { theirs, sent } = ask(options)
      // A changed Hello is seen by the new gateway first: the Proof does not cover what it sent.
      assert.ok(['proof', 'nothing', 'refused'].includes(codeOf(theirs)), `${at} ${codeOf(theirs)}`)
      assert.ok(sent[1].every((frame) => decodeFrame(frame)?.gatewayAdmitted === null))
      assert.ok(!contains(sent[1], west.seed))
    }
  })

  it('takes a key of 32 bytes, beside nothing else', () => {
    const { key } = ask()
    for (const fields of [{ gatewayKey: key.subarray(1) }, { invite: west.item }, { credential: west.item }])
      assert.equal(codeOf(ask({ tamper: [rewrite('hello', fields)] }).theirs), 'protocol')
  })

  it('takes its messages in their state only', () => {
    const member = world.member(east, [west, east])
    const door = world.open(world.member(west), member.origin, false)
    const [hello] = world.open(member, world.member(west).origin, true).start()
    assert.ok(hello)
    door.receive(hello, NOW_MS)
    const { outcome } = door.receive(encodeFrame({ gatewayKnock: { signature: new Uint8Array(64) } }), NOW_MS)
    assert.equal(codeOf(outcome), 'protocol')
    const { door: asked } = ask({ answer: { kind: 'reject', code: 'used', detail: '', explain: [] } })
    assert.deepEqual(asked.answer({ kind: 'reject', code: 'busy', detail: '', explain: [] }).send, [])
  })
})

describe('the decision on one more gateway', () => {
  const [key, clusterKey] = [keyOf(world, world.crypto.random(32)), keyOf(world, west.seed)]
  const [peer, thief] = ['peer', 'thief'] as unknown as [Origin, Origin]
  const open: GatewayInvite = { key, clusterKey, notAfter: 1000 }
  const judge = (
    invites: readonly GatewayInvite[],
    giver: Partial<Parameters<typeof judgeGateway>[2]> = {},
    by = peer
  ) =>
    judgeGateway(
      invites,
      { key, peer: by },
      { clusterKey, stands: true, isBarred: () => false, now: 1000, ...giver }
    )
  const code = (verdict: ReturnType<typeof judge>): string =>
    verdict.kind === 'reject' ? verdict.code : `give${verdict.isFirst ? '' : ' again'}`

  it('gives the key to the first one, and to that one again, whatever the date', () => {
    const first = judge([open])
    assert.ok(first.kind === 'give')
    assert.deepEqual([first.isFirst, first.invite], [true, { ...open, usedBy: peer }])
    assert.equal(code(judge([first.invite], { now: 1e9 })), 'give again')
    assert.equal(code(judge([first.invite], {}, thief)), 'used')
  })

  it('refuses in the order of the page', () => {
    const used = { ...open, usedBy: thief }
    const wrong = { stands: false, isBarred: () => true, now: 1001 }
    assert.equal(code(judge([], wrong)), 'busy')
    assert.equal(code(judge([], { ...wrong, stands: true })), 'cancelled')
    assert.equal(code(judge([used], { ...wrong, stands: true })), 'used')
    assert.equal(code(judge([open], { ...wrong, stands: true })), 'barred')
    assert.equal(code(judge([open], { now: 1001 })), 'expired')
    assert.equal(code(judge([open])), 'give')
  })

  it('gives nothing for an invite of an earlier key of the cluster', () => {
    const before = { ...open, clusterKey: keyOf(world, east.seed), usedBy: peer }
    assert.equal(code(judge([before])), 'cancelled')
  })

  it('names the agent that was first, so that the operator can see a thief', () => {
    const verdict = judge([{ ...open, usedBy: thief }])
    assert.ok(verdict.kind === 'reject')
    assert.match(verdict.detail, /the agent thief has used this token; .*docs\/trust\.md/)
  })
})
