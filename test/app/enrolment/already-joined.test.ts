// What `meshctl join` and `meshctl init` say on an agent that is in a mesh: what it belongs to, what the token is for, and what to do.
import assert from 'node:assert/strict'
import { alreadyJoined } from '../../../src/app/enrolment/already-joined.ts'
import { createIdentity, initMesh, pendingMembership } from '../../../src/app/identity/identity.ts'
import { invite } from '../../../src/app/identity/invite.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import type { Identity } from '../../../src/io/store/store.ts'
import { seatsOf } from '../identity/seats.ts'

const NOW_MS = Date.UTC(2026, 0, 1)
const crypto = createCrypto()
const west = mesh('west')
const membership = pendingMembership(west, crypto)

describe('an agent that is in a mesh already', () => {
  it('says what it belongs to and what the token is for', () => {
    const edge = said(tokenFor('edge', west))
    assert.match(
      edge.message,
      /^this agent already belongs to cluster west of mesh-\w+; the token is for cluster edge of the same mesh$/
    )
    assert.equal(edge.fix, 'run `meshctl join` on a gateway of cluster edge')
    const foreign = said(tokenFor('edge', mesh('north')))
    assert.match(
      foreign.message,
      /^this agent already belongs to cluster west of (mesh-\w+); the token is for cluster edge of (?!\1)mesh-\w+$/
    )
    assert.equal(
      foreign.fix,
      'run `meshctl join` on a gateway of cluster edge; to move this cluster there, run `meshctl leave` first'
    )
  })

  it('needs no second token for its own cluster', () => {
    const { message, fix } = said(tokenFor('west', west, '10.9.0.0/16'))
    assert.match(message, /; the token is another one for the same cluster$/)
    assert.equal(fix, 'keep this membership: it needs no other token')
  })

  it('needs one after its cluster was ended, and has to leave first', () => {
    const token = tokenFor('west', west, '10.9.0.0/16')
    const { message, fix } = alreadyJoined(membership, { crypto, token, stands: false, nowMs: NOW_MS })
    assert.match(message, / and was ended there; the token is another one for the same cluster$/)
    assert.equal(fix, 'run `meshctl leave` here, then join again with this token')
  })

  it('says what is wrong with a token that it cannot use', () => {
    for (const [token, problem] of [
      ['hello', /; the token cannot be used: this is not a token: /],
      [tokenFor('edge', west).slice(0, -1), /; the token cannot be used: /]
    ] as const) {
      const { message, fix } = said(token)
      assert.match(message, problem)
      assert.match(fix ?? '', /^keep this membership; to join with another token, run `meshctl leave` first$/)
    }
  })

  it('makes no second mesh', () => {
    const { code, message, fix } = said(undefined)
    assert.equal(code, 'ALREADY_JOINED')
    assert.match(message, /^this agent already belongs to cluster west of mesh-\w+$/)
    assert.equal(fix, 'keep this membership; to make another mesh, run `meshctl leave` first')
  })

  it('takes no translation in place, and says the steps to one', () => {
    for (const token of [undefined, tokenFor('west', west, '10.9.0.0/16')]) {
      const {
        code,
        message,
        fix = ''
      } = alreadyJoined(membership, {
        crypto,
        token,
        translates: true,
        nowMs: NOW_MS
      })
      assert.equal(code, 'ALREADY_JOINED')
      assert.match(message, /a member takes no translation in place: /)
      assert.match(
        fix,
        /`meshctl leave`.*`meshctl invite west --real-pod-cidr .*`meshctl join .*--real-pod-cidr/s
      )
    }
    const other = alreadyJoined(membership, {
      crypto,
      token: tokenFor('edge', west),
      translates: true,
      nowMs: NOW_MS
    })
    assert.equal(other.fix, 'run `meshctl join` on a gateway of cluster edge')
  })

  const said = (token: string | undefined) => alreadyJoined(membership, { crypto, token, nowMs: NOW_MS })
})

function mesh(cluster: string): Identity {
  return initMesh(
    { cluster, podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] },
    { crypto, identity: createIdentity(crypto), nowMs: NOW_MS, hostNetworks: [] }
  )
}

function tokenFor(cluster: string, identity: Identity, podCidr = '10.2.0.0/16'): string {
  const peerId = originOf(crypto.publicKeyOf(crypto.random(32)))
  return invite(
    { cluster, podCidrs: [podCidr], serviceCidrs: ['10.102.0.0/16'], ttlSeconds: 3600, bootstrap: [] },
    {
      crypto,
      identity,
      nowMs: NOW_MS,
      view: { self: 'other' as ClusterName, clusters: new Map() },
      bootstrap: new Map([['other' as ClusterName, [`/ip4/192.0.2.1/tcp/7946/p2p/${peerId}`]]]),
      seats: seatsOf(identity, crypto),
      hostNetworks: []
    }
  ).token
}
