import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { originOf, publicKeyOf } from '../../../../src/core/model/identity.ts'
import { Suspicions } from '../../../../src/core/replication/failure/suspicions.ts'
import { decodeFrame } from '../../../../src/core/wire/messages.ts'
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

  it('take no vote above which nobody could refute', () => {
    const [, b, , d] = all()
    const [last, beyond] = [2 ** 52 - 1, 2 ** 52].map((incarnation) => {
      const [word] = all({ incarnation })[0]?.lastWord() ?? []
      const beacon = decodeFrame(word ?? new Uint8Array())?.beacon
      assert.ok(b && A && beacon)
      b.takeBeacon(beacon)
      return b.suspect(A, 0)
    })
    assert.ok(d)
    assert.equal(vote(last, d, 0).kind, 'forward')
    assert.equal(vote(beyond, d, 0).kind, 'refused')
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

function vote(frame: Uint8Array | undefined, to: Suspicions, nowMs: number) {
  const suspicion = decodeFrame(frame ?? new Uint8Array())?.suspicion
  return suspicion ? to.takeVote(suspicion, nowMs) : { kind: 'known' as const }
}
