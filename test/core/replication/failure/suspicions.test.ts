import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { originOf, publicKeyOf } from '../../../../src/core/model/identity.ts'
import { Suspicions } from '../../../../src/core/replication/failure/suspicions.ts'
import type { Origin } from '../../../../src/core/model/values.ts'
import { decodeFrame, encodeFrame, encodeMessage, wire } from '../../../../src/core/wire/messages.ts'
import { createCrypto } from '../../../../src/io/crypto/crypto.ts'

const crypto = createCrypto()
const MEMBERS = [1, 2, 3, 4].map((byte) => {
  const selfSeed = new Uint8Array(32).fill(byte)
  return { selfSeed, self: originOf(crypto.publicKeyOf(selfSeed)) }
})
const [A, B, C, D] = MEMBERS.map(({ self }) => self)

describe('suspicions', () => {
  it('need two confirmations and time for a refutation', () => {
    const [, b, c, d] = all()
    assert.ok(b && c && d && A)
    vote(b.suspect(A, 0), d, 0)
    assert.equal(d.isDead(A, 5000, 4), false)
    assert.ok(d.isSuspected(A))
    vote(c.suspect(A, 5000), d, 5000)
    assert.equal(d.isDead(A, 5500, 4), false)
    assert.equal(d.isDead(A, 6000, 4), true)
  })

  it('are refuted by the suspect and by nobody else', () => {
    const [a, b, c, d] = all()
    assert.ok(a && b && c && d && A)
    const votes = [b, c].map((by) => by.suspect(A, 0))
    assert.equal(vote(votes[0], a, 0).kind, 'refute')
    for (const frame of votes) vote(frame, d, 0)
    assert.ok(d.isDead(A, 2000, 4))
    const forged = decodeFrame(a.refutation())?.beacon
    assert.ok(forged)
    assert.equal(d.takeBeacon({ ...forged, signature: new Uint8Array(64) }).kind, 'refused')
    assert.equal(d.takeBeacon(forged).kind, 'forward')
    assert.equal(d.isDead(A, 9000, 4), false)
    assert.equal(vote(votes[0], d, 3000).kind, 'known') // of the incarnation that was refuted
  })

  it('are told to who brings a beacon from before them, so that the suspect hears of them', () => {
    const [a, b, c, d] = all()
    assert.ok(a && b && c && d && A)
    vote(b.suspect(A, 0), a, 0)
    const later = decodeFrame(a.refutation())?.beacon
    assert.ok(later)
    assert.equal(d.takeBeacon(later).kind, 'forward')
    assert.equal(c.takeBeacon(later).kind, 'forward')
    vote(c.suspect(A, 5000), d, 5000) // of the incarnation that A has forgotten when it starts again
    const [again] = all()
    const outdated = decodeFrame(again?.refutation() ?? new Uint8Array())?.beacon
    assert.ok(again && outdated)
    const said = d.takeBeacon(outdated)
    assert.ok(said.kind === 'outdated' && said.votes.length === 1)
    assert.equal(vote(said.votes[0], again, 6000).kind, 'refute')
    const anew = decodeFrame(again.refutation())?.beacon
    assert.ok(anew)
    assert.equal(d.takeBeacon(anew).kind, 'forward')
    assert.equal(d.isSuspected(A), false)
  })

  it('of an earlier life end with the first word of the next', () => {
    const [, b, c, d] = all()
    const [again] = all({ incarnation: 1_700_000_000_000 })
    assert.ok(again && b && c && d && A)
    for (const by of [b, c]) vote(by.suspect(A, 0), d, 0)
    assert.ok(d.isDead(A, 2000, 4))
    const [word] = again.lastWord()
    const beacon = decodeFrame(word ?? new Uint8Array())?.beacon
    assert.ok(beacon)
    assert.equal(d.takeBeacon(beacon).kind, 'forward')
    assert.equal(d.isDead(A, 9000, 4), false)
  })

  it('count only for an incarnation that the suspect has signed, whatever voters claim', () => {
    fc.assert(
      fc.property(fc.array(fc.bigInt({ min: 1n, max: 2n ** 52n - 1n }), { maxLength: 20 }), (claims) => {
        const [a, b, c, d] = all()
        assert.ok(a && b && c && d && A && B && C)
        for (const [index, claim] of [...claims, 2n ** 52n - 1n].entries()) {
          const frame = claimed({ origin: A, by: index % 2 === 0 ? B : C, incarnation: Number(claim) })
          assert.equal(vote(frame, d, index).kind, 'known')
          assert.equal(vote(frame, a, index).kind, 'known', 'A has nothing to refute')
        }
        // Suspicion of the victim works as before.
        for (const by of [b, c]) assert.equal(vote(by.suspect(A, 20_000), d, 20_000).kind, 'forward')
        assert.ok(d.isDead(A, 22_000, 4))
      }),
      { numRuns: 20 }
    )
  })

  it('carry the beacon of the suspect, so that agents which have missed it count them', () => {
    const incarnation = 1_700_000_000_000
    const [again] = all({ incarnation })
    const [, b, c, d] = all()
    assert.ok(again && b && c && d && A)
    const word = decodeFrame(again.lastWord()[0] ?? new Uint8Array())?.beacon
    assert.ok(word)
    for (const by of [b, c]) by.takeBeacon(word)
    const [first, second] = [b.suspect(A, 0), c.suspect(A, 0)]
    const said = vote(first, d, 0)
    assert.ok(said.kind === 'forward')
    assert.ok(decodeFrame(said.frame)?.suspicion?.beacon, 'it goes on to those behind')
    assert.equal(vote(second, d, 0).kind, 'forward')
    assert.ok(d.isDead(A, 2000, 4))
    const forged = decodeFrame(first ?? new Uint8Array())?.suspicion
    assert.ok(forged?.beacon)
    const [, , , e] = all()
    const beacon = { ...forged.beacon, signature: new Uint8Array(64) }
    assert.equal(e?.takeVote({ ...forged, beacon }, 0).kind, 'refused')
    // A member that has lost its counter refutes what it has signed in an earlier life.
    const [fresh] = all()
    assert.ok(fresh)
    assert.equal(vote(first, fresh, 0).kind, 'refute')
    const refutation = decodeFrame(fresh.refutation())?.beacon
    assert.ok(refutation)
    assert.equal(d.takeBeacon(refutation).kind, 'forward')
  })

  it('of an unknown voter are not the fault of the neighbour that forwards them', () => {
    const seed = new Uint8Array(32).fill(77)
    const stranger = originOf(crypto.publicKeyOf(seed))
    const [, , , d] = all()
    assert.ok(A && d)
    assert.equal(vote(claimed({ origin: A, by: stranger, incarnation: 0 }, seed), d, 0).kind, 'known')
  })

  it('take no beacon that only an incarnation beyond exact numbers could follow', () => {
    const [, , , d] = all()
    const [word] = all({ incarnation: 2 ** 52 })[0]?.lastWord() ?? []
    const beacon = decodeFrame(word ?? new Uint8Array())?.beacon
    assert.ok(d && beacon)
    assert.equal(d.takeBeacon(beacon).kind, 'refused')
  })

  it('count a voter once, and take none for another', () => {
    const [, b, , d] = all()
    assert.ok(b && d && A && C && D)
    const frame = b.suspect(A, 0)
    vote(frame, d, 0)
    assert.equal(vote(frame, d, 0).kind, 'known')
    assert.equal(d.isDead(A, 9000, 4), false)
  })

  it('of one voter are 64 in 10 s at most, and none is on the voter itself', () => {
    const options = {
      meshId: new Uint8Array(32),
      crypto,
      memberKey: publicKeyOf,
      originsMax: 200,
      incarnation: 0
    }
    const [voter, judge] = MEMBERS.map((member) => new Suspicions({ ...options, ...member }))
    const [first] = MEMBERS
    assert.ok(voter && judge && first && A)
    assert.equal(vote(voter.suspect(A, 0), judge, 0).kind, 'known')
    const suspects = Array.from({ length: 80 }, (_, index) => originOf(new Uint8Array(32).fill(index + 100)))
    const counted = (nowMs: number) =>
      suspects.filter((suspect) => {
        const frame = new Suspicions({ ...options, ...first }).suspect(suspect, nowMs)
        return vote(frame, judge, nowMs).kind === 'forward'
      }).length
    assert.equal(counted(0), 64)
    assert.equal(counted(9_999), 0)
    assert.equal(counted(10_000), 16)
  })

  it('answer any bytes', () => {
    const [a] = all()
    assert.ok(a)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 70 }), (body, signature) => {
        assert.notEqual(a.takeVote({ body, signature }, 0).kind, 'forward')
        assert.notEqual(a.takeBeacon({ body, signature }).kind, 'forward')
      })
    )
  })
})

function all({ incarnation } = { incarnation: 0 }): readonly Suspicions[] {
  return MEMBERS.map(
    (member) =>
      new Suspicions({
        ...member,
        meshId: new Uint8Array(32),
        crypto,
        memberKey: (origin) =>
          [A, B, C, D].includes(origin)
            ? crypto.publicKeyOf(MEMBERS.find(({ self }) => self === origin)?.selfSeed ?? new Uint8Array(32))
            : undefined,
        originsMax: 10,
        incarnation
      })
  )
}

/** A vote that its voter has signed, with whatever it claims. */
function claimed(
  body: { readonly origin: Origin; readonly by: Origin; readonly incarnation: number },
  seed = MEMBERS.find(({ self }) => self === body.by)?.selfSeed ?? new Uint8Array(32)
): Uint8Array {
  const encoded = encodeMessage(wire.SuspicionBody, body)
  const tag = new TextEncoder().encode('rhizome/suspicion/1\0')
  const signature = new Uint8Array(crypto.sign(seed, tag, new Uint8Array(32), encoded))
  return encodeFrame({ suspicion: { body: encoded, signature } })
}

function vote(frame: Uint8Array | undefined, to: Suspicions, nowMs: number) {
  const suspicion = decodeFrame(frame ?? new Uint8Array())?.suspicion
  return suspicion ? to.takeVote(suspicion, nowMs) : { kind: 'known' as const }
}
