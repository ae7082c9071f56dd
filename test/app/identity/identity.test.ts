import assert from 'node:assert/strict'
import * as membership from '../../../src/app/identity/identity.ts'
import { invite, withoutRedeemedInvites } from '../../../src/app/identity/invite.ts'
import type { InviteRequest } from '../../../src/api/requests.ts'
import type { Cidr, ClusterName, Ip } from '../../../src/core/model/values.ts'
import { NO_SURROUNDINGS, type OuterAddress } from '../../../src/core/host/surroundings.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { rangeOf } from '../../../src/core/trust/set/prefix-range.ts'
import { decodeInviteToken } from '../../../src/core/trust/invite-token.ts'
import type { KeyId } from '../../../src/core/trust/set/ids.ts'
import { admitCluster } from '../../../src/core/trust/author/join.ts'
import type { ClusterView, MeshView } from '../../../src/core/view/view.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import type { Identity } from '../../../src/io/store/store.ts'
import { refusal } from '../../../src/app/enrolment/refusal.ts'
import { seatsOf } from './seats.ts'

const crypto = createCrypto()
const NOW_MS = 1_795_392_000_000
const HOUR_MS = 3_600_000
/** No member has let a cluster in by any invite. */
const unused = () => new Set<string>()

describe('membership', () => {
  const west = membership.initMesh(
    { cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] },
    { crypto, identity: membership.createIdentity(crypto), nowMs: NOW_MS, hostNetworks: [] }
  )

  describe('init', () => {
    const bad: readonly (readonly [field: string, request: Partial<InviteRequest>, message: RegExp])[] = [
      ['cluster', { cluster: 'West_1' }, /^cluster: /],
      ['cluster', { cluster: '' }, /^cluster: /],
      ['pod-cidr', { podCidrs: ['10.1.0.0/33'] }, /^pod-cidr: /],
      ['service-cidr', { serviceCidrs: ['10.101.0.1'] }, /^service-cidr: /],
      ['both prefixes', { podCidrs: ['10.101.0.0/17'] }, /10\.101\.0\.0/]
    ]
    for (const [field, change, message] of bad) {
      it(`names a bad ${field} (${JSON.stringify(change)}) and the fix`, () => {
        const request = {
          cluster: 'west',
          podCidrs: ['10.1.0.0/16'],
          serviceCidrs: ['10.101.0.0/16'],
          ...change
        }
        assert.throws(
          () =>
            membership.initMesh(request, {
              crypto,
              identity: membership.createIdentity(crypto),
              nowMs: NOW_MS,
              hostNetworks: []
            }),
          (error: Error & { code?: string; fix?: string }) => {
            assert.equal(error.code, 'BAD_ARGUMENT')
            assert.match(error.message, message)
            assert.ok(error.fix)
            return true
          }
        )
      })
    }

    it('chooses prefixes that are not those of this host', () => {
      const identity = membership.initMesh(
        { cluster: 'west', podCidrs: [], serviceCidrs: [] },
        {
          crypto,
          identity: membership.createIdentity(crypto),
          nowMs: NOW_MS,
          hostNetworks: ['10.128.3.4/32' as Cidr]
        }
      )
      assert.deepEqual(identity.podPrefixes, ['10.129.0.0/16'])
    })
  })

  describe('invite', () => {
    const inviting = (
      request: Partial<InviteRequest> = {},
      identity: Identity = west,
      seats = seatsOf(identity, crypto)
    ) =>
      invite(
        {
          cluster: 'east',
          podCidrs: ['10.2.0.0/16'],
          serviceCidrs: ['10.102.0.0/16'],
          ttlSeconds: 3600,
          bootstrap: [],
          ...request
        },
        {
          crypto,
          identity,
          nowMs: NOW_MS,
          view: withMember(
            viewOf('west', '10.1.0.0/16', '10.101.0.0/16'),
            viewOf('north', '10.9.0.0/16', '10.109.0.0/16')
          ),
          bootstrap: new Map([['west' as ClusterName, [ADDRESS]]]),
          seats,
          hostNetworks: [],
          balancePrefix: '240.240.0.0/16' as Cidr
        }
      )

    it('has the namespaces of the request, and refuses what is no name of one', () => {
      const token = decodeInviteToken(inviting({ namespaces: ['shop', 'web'] }).token, {
        crypto,
        nowSeconds: NOW_MS / 1000,
        meshId: undefined
      })
      assert.ok(token.kind === 'token')
      assert.deepEqual(token.invite.namespaces, ['shop', 'web'])
      assert.throws(() => inviting({ namespaces: ['shop', 'No'] }), { code: 'BAD_ARGUMENT', message: /"No"/ })
    })

    it('says of the own cluster what its operator may mean, and names no command that is refused', () => {
      assert.throws(() => inviting({ cluster: 'west' }), {
        code: 'NAME_TAKEN',
        message: /west is the cluster of this agent/,
        fix: /^(?!.*--replace).*`meshctl invite --gateway`.*`meshctl key rotate --cluster`/
      })
    })

    it('names each way to free a name that is taken, or to take its place', () => {
      assert.throws(() => inviting({ cluster: 'north' }), {
        fix: /`meshctl leave` in it.*`meshctl remove north` here.*`meshctl invite north --replace`/
      })
    })

    const refused: readonly (readonly [what: string, act: () => unknown, code: string, message: RegExp])[] = [
      [
        'a name that is taken',
        () => inviting({ cluster: 'north' }),
        'NAME_TAKEN',
        /the name north is taken by a member/
      ],
      [
        'a prefix of a member',
        () => inviting({ podCidrs: ['10.1.128.0/17'] }),
        'PREFIX_OVERLAP',
        /10\.1\.128\.0\/17 overlaps 10\.1\.0\.0\/16 of cluster west/
      ],
      [
        'the addresses of balanced services',
        () => inviting({ podCidrs: ['240.240.128.0/17'] }),
        'PREFIX_OVERLAP',
        /240\.240\.128\.0\/17 overlaps 240\.240\.0\.0\/16, from which .* a policy or a ServiceExport/
      ],
      [
        'a prefix of an open invite',
        () => inviting({ cluster: 'edge', serviceCidrs: ['10.103.0.0/16'] }, inviting().identity),
        'PREFIX_OVERLAP',
        /of the open invite of east/
      ],
      [
        'an unknown bootstrap cluster',
        () => inviting({ bootstrap: ['nowhere'] }),
        'BAD_ARGUMENT',
        /^bootstrap: nowhere is not a cluster of this mesh/
      ],
      [
        'an agent without a seat',
        () => inviting({}, membership.createIdentity(crypto)),
        'NO_SEAT',
        /holds no seat of an administrator/
      ]
    ]
    for (const [what, act, code, message] of refused) {
      it(`refuses ${what}`, () => {
        assert.throws(act, { code, message })
      })
    }

    const around = {
      surroundings: {
        networks: [{ destination: '10.7.5.0/24' as Cidr, device: 'eth0', onLink: true }],
        gateways: ['198.51.100.1' as Ip],
        resolvers: ['fd00:53::53' as Ip],
        addresses: []
      },
      outers: [{ ip: '203.0.113.11' as Ip, cluster: 'west' as ClusterName, node: 'west-gw' }]
    }
    const withAround = (podCidrs: readonly string[], serviceCidrs: readonly string[]) =>
      invite(
        { cluster: 'n7', ttlSeconds: 3600, bootstrap: [], podCidrs, serviceCidrs },
        {
          crypto,
          identity: west,
          nowMs: NOW_MS,
          view: viewOf('west', '10.1.0.0/16', '10.101.0.0/16'),
          bootstrap: new Map([['west' as ClusterName, [ADDRESS]]]),
          seats: seatsOf(west, crypto),
          hostNetworks: [],
          around
        }
      )
    for (const [what, pods, services, hidden] of [
      [
        'the outer address of a member',
        '203.0.113.0/24',
        '10.107.0.0/16',
        /203\.0\.113\.11, an outer address of west-gw/
      ],
      ['the default gateway', '10.7.0.0/16', '198.51.100.0/24', /198\.51\.100\.1, the default gateway/],
      ['a DNS server', 'fd00:53::/32', '10.107.0.0/16', /fd00:53::53, a DNS server/]
    ] as const) {
      it(`gives away no prefix that hides ${what}`, () => {
        assert.throws(
          () => withAround([pods], [services]),
          (error: Error & { code?: string }) => error.code === 'PREFIX_HIDES' && hidden.test(error.message)
        )
      })
    }

    it('warns of a network of this host inside a prefix, which stays with the host', () => {
      assert.match(withAround(['10.7.0.0/16'], ['10.107.0.0/16']).warnings.join(), /10\.7\.5\.0\/24 on eth0/)
      assert.deepEqual(withAround(['10.8.0.0/16'], ['10.107.0.0/16']).warnings, [])
    })

    it('a token whose prefixes hide the members that it names is not joined with', () => {
      const { token } = invite(
        {
          cluster: 'n7',
          ttlSeconds: 3600,
          bootstrap: [],
          podCidrs: ['203.0.113.0/24'],
          serviceCidrs: ['10.107.0.0/16']
        },
        {
          crypto,
          identity: west,
          nowMs: NOW_MS,
          view: viewOf('west', '10.1.0.0/16', '10.101.0.0/16'),
          bootstrap: new Map([['west' as ClusterName, [ADDRESS]]]),
          seats: seatsOf(west, crypto),
          hostNetworks: []
        }
      )
      assert.throws(
        () =>
          membership.redeemToken(token, {
            crypto,
            identity: membership.createIdentity(crypto),
            nowMs: NOW_MS
          }),
        (error: Error & { code?: string }) =>
          error.code === 'PREFIX_HIDES' && /203\.0\.113\.0\/24 would hide 203\.0\.113\.11/.test(error.message)
      )
    })

    it('says which open invite it takes back, and when that was made', () => {
      const first = inviting()
      assert.deepEqual(first.takesBack, [])
      const { takesBack, items } = inviting({}, first.identity)
      const madeMs = Math.floor(NOW_MS / 1000) * 1000
      assert.deepEqual([takesBack, items.length], [[{ cluster: 'east', madeMs }], 1])
      assert.deepEqual(
        inviting(
          { cluster: 'edge', podCidrs: ['10.3.0.0/16'], serviceCidrs: ['10.103.0.0/16'] },
          first.identity
        ).takesBack,
        []
      )
    })

    it('without prefixes gets those that the seat may give', () => {
      const seats = seatsOf(west, crypto).map((one) => ({
        ...one,
        seat: { ...one.seat, prefixes: [rangeOf('10.64.0.0/10' as Cidr)] }
      }))
      const made = inviting({ podCidrs: [], serviceCidrs: [] }, west, seats)
      assert.deepEqual([made.podPrefixes, made.servicePrefixes], [['10.64.0.0/16'], ['10.65.0.0/16']])
    })

    it('an expired invite holds no prefixes any more', () => {
      const { identity } = inviting({ ttlSeconds: 1 })
      const later = {
        ...identity,
        invites: identity.invites?.map((each) => ({ ...each, expiresMs: NOW_MS }))
      }
      assert.deepEqual(inviting({ cluster: 'edge' }, later as Identity).podPrefixes, ['10.2.0.0/16'])
    })

    it('chooses the next free prefixes, beside members and open invites', () => {
      const first = inviting({ podCidrs: [], serviceCidrs: [] })
      const second = inviting({ cluster: 'edge', podCidrs: [], serviceCidrs: [] }, first.identity)
      assert.deepEqual([first.podPrefixes, second.podPrefixes], [['10.128.0.0/16'], ['10.129.0.0/16']])
    })

    it('closes an invite when its cluster is a member, so that its prefixes are free once it has left', () => {
      const first = inviting()
      const member = viewOf('east', '10.2.0.0/16', '10.102.0.0/16')
      const closed = withoutRedeemedInvites(first.identity, { view: member, used: unused })
      assert.deepEqual(closed.invites, [])
      const renamed = inviting({ cluster: 'east-2' }, closed)
      assert.deepEqual(renamed.podPrefixes, first.podPrefixes)
      // An invite that is still open stays in the way, and nothing is written when nothing changes.
      const others = viewOf('west', '10.1.0.0/16', '10.101.0.0/16')
      assert.equal(withoutRedeemedInvites(first.identity, { view: others, used: unused }), first.identity)
      assert.throws(() => inviting({ cluster: 'east-2' }, first.identity), /the open invite of east/)
    })

    describe('that replaces a cluster', () => {
      const east = {
        key: 'ea57'.repeat(16) as KeyId,
        name: 'east' as ClusterName,
        podPrefixes: ['10.2.0.0/16' as Cidr],
        servicePrefixes: ['10.102.0.0/16' as Cidr],
        namespaces: ['shop']
      }
      const view: MeshView = {
        self: 'west' as ClusterName,
        clusters: new Map([
          ...viewOf('west', '10.1.0.0/16', '10.101.0.0/16').clusters,
          ...viewOf('east', '10.2.0.0/16', '10.102.0.0/16').clusters
        ])
      }
      const replacing = (
        request: Partial<InviteRequest> = {},
        { identity = west, seats = seatsOf(identity, crypto), outers = [] as readonly OuterAddress[] } = {}
      ) =>
        invite(
          { cluster: 'east', podCidrs: [], serviceCidrs: [], ttlSeconds: 3600, bootstrap: [], ...request },
          {
            crypto,
            identity,
            nowMs: NOW_MS,
            view,
            bootstrap: new Map([['west' as ClusterName, [ADDRESS]]]),
            seats,
            hostNetworks: [],
            around: { surroundings: NO_SURROUNDINGS, outers },
            replaced: east
          }
        )

      it('has its name, prefixes and namespaces unless told otherwise, and its key', () => {
        const made = replacing()
        assert.deepEqual([made.podPrefixes, made.servicePrefixes], [['10.2.0.0/16'], ['10.102.0.0/16']])
        const token = decodeInviteToken(made.token, {
          crypto,
          nowSeconds: NOW_MS / 1000,
          meshId: undefined
        })
        assert.ok(token.kind === 'token')
        assert.deepEqual([token.invite.replaces, token.invite.namespaces], [east.key, ['shop']])
        const moved = replacing({ cluster: 'orient', podCidrs: ['10.7.0.0/16'] })
        assert.deepEqual([moved.podPrefixes, moved.servicePrefixes], [['10.7.0.0/16'], ['10.102.0.0/16']])
      })

      it('refuses the name and the prefixes of any other member', () => {
        assert.throws(() => replacing({ cluster: 'west' }), { code: 'NAME_TAKEN' })
        assert.throws(() => replacing({ podCidrs: ['10.1.0.0/24'] }), { code: 'PREFIX_OVERLAP' })
      })

      it('needs one seat that covers both names', () => {
        const [seat] = seatsOf(west, crypto)
        assert.ok(seat)
        const only = (names: readonly string[]) => [{ ...seat, seat: { ...seat.seat, names } }]
        const seats = [...only(['east']), ...only(['orient'])]
        assert.throws(() => replacing({ cluster: 'orient' }, { seats }), {
          code: 'SEAT_EXCEEDED',
          message: 'no seat of this agent covers the names orient and east'
        })
        assert.throws(() => replacing({}, { seats: only(['west']) }), {
          message: 'no seat of this agent covers the name east'
        })
      })

      it('lets the gateways of that cluster lie in its prefixes, under the new name, too', () => {
        const outers = [{ ip: '10.2.0.1' as Ip, cluster: 'east' as ClusterName, node: 'gw' }]
        assert.ok(replacing({ cluster: 'orient' }, { outers }))
        const others = outers.map((outer) => ({ ...outer, cluster: 'edge' as ClusterName }))
        assert.throws(() => replacing({}, { outers: others }), { code: 'PREFIX_HIDES' })
      })

      it('stays open while the replaced cluster has the name, and is closed when it was used', () => {
        const { identity } = replacing()
        assert.equal(withoutRedeemedInvites(identity, { view, used: unused }), identity)
        const used = () => new Set([identity.invites?.[0]?.id ?? ''])
        assert.deepEqual(withoutRedeemedInvites(identity, { view, used }).invites, [])
      })

      it('takes back an open invite that replaces the same cluster, whatever its name', () => {
        const first = replacing()
        const second = replacing({ cluster: 'orient' }, { identity: first.identity })
        assert.equal(second.items.length, 1)
        assert.deepEqual(
          second.identity.invites?.map(({ cluster }) => cluster),
          ['orient']
        )
      })
    })

    describe('redeemed', () => {
      it('knows the token that this agent joined with, white space apart, and no other', () => {
        const { token } = inviting()
        const pending = redeeming(token, membership.createIdentity(crypto))
        const joined = membership.admitted(pending, admissionOf(pending))
        assert.ok(membership.isJoinedWith(joined, { crypto, token: ` ${token}\n` }))
        assert.ok(!membership.isJoinedWith(joined, { crypto, token: inviting().token }))
        assert.ok(!membership.isJoinedWith(pending, { crypto, token }), 'no member has accepted it yet')
      })

      /** The item with which a member answers the knock. */
      const admissionOf = ({ pending }: Identity): Uint8Array => {
        const roots = membership.rootsOf(west, crypto) ?? assert.fail()
        const certItem = bytes(pending?.certItem ?? '')
        const sponsorSeed = bytes(west.clusterSeed ?? '')
        return admitCluster({ crypto, roots }, { certItem, sponsorSeed, seen: 1, time: NOW_MS / 1000 }).item
      }

      const redeeming = (token: string, identity: Identity, nowMs = NOW_MS) =>
        membership.redeemToken(token, { crypto, identity, nowMs })

      it('is pending until a member admits it; then it is a membership without roots and seats', () => {
        const fresh = membership.createIdentity(crypto)
        const pending = redeeming(inviting().token, fresh)
        assert.equal(membership.membershipOf(pending, crypto), undefined)
        const knocking = membership.pendingMembership(pending, crypto)
        assert.equal(knocking.stage.kind, 'newcomer')
        const joined = membership.admitted(pending, admissionOf(pending))
        const member = membership.membershipOf(joined, crypto)
        assert.equal(member?.stage.kind, 'member')
        assert.equal(joined.pending, undefined, 'the secret of the token is not kept')
        assert.equal(member?.cluster, 'east')
        assert.deepEqual(member?.podPrefixes, ['10.2.0.0/16'])
        assert.deepEqual(member?.bootstrap, [ADDRESS])
        assert.deepEqual([joined.rootSeeds, joined.seats], [undefined, undefined])
        assert.equal(pending.nodeSeed, fresh.nodeSeed)
      })

      it('is given up for a mesh of its own, and without one: the keys of the agent stay', () => {
        const fresh = membership.createIdentity(crypto)
        const pending = redeeming(inviting().token, fresh)
        const own = membership.initMesh(
          { cluster: 'east', podCidrs: ['10.2.0.0/16'], serviceCidrs: ['10.102.0.0/16'] },
          { crypto, identity: pending, nowMs: NOW_MS, hostNetworks: [] }
        )
        assert.equal(own.pending, undefined)
        assert.equal(membership.membershipOf(own, crypto)?.cluster, 'east')
        assert.equal(own.nodeSeed, fresh.nodeSeed)
        assert.deepEqual(membership.withoutMesh(pending), fresh)
      })

      it('twice makes the same key: the first try may have got through', () => {
        const { token } = inviting()
        const pending = redeeming(token, membership.createIdentity(crypto))
        assert.equal(redeeming(`  ${token}\n`, pending).clusterSeed, pending.clusterSeed)
      })

      it('by a host with a wrong clock is no error: the clock of the sponsor decides on the date', () => {
        for (const nowMs of [NOW_MS + 2 * HOUR_MS, NOW_MS - HOUR_MS])
          assert.ok(redeeming(inviting().token, membership.createIdentity(crypto), nowMs).pending)
      })

      const bad: readonly (readonly [what: string, token: () => string, nowMs: number, code: string])[] = [
        ['nothing', () => ' ', NOW_MS, 'TOKEN_EMPTY'],
        ['another text', () => 'hello', NOW_MS, 'TOKEN_NOT_A_TOKEN'],
        ['a part of it', () => inviting().token.slice(0, -1), NOW_MS, 'TOKEN_DAMAGED'],
        [
          'it of a newer version',
          () => inviting().token.replace('rzm2', 'rzm3'),
          NOW_MS,
          'TOKEN_NEWER_VERSION'
        ],
        [
          'it of an older version',
          () => inviting().token.replace('rzm2', 'rzm1'),
          NOW_MS,
          'TOKEN_OLDER_VERSION'
        ]
      ]
      for (const [what, token, nowMs, code] of bad) {
        it(`${what} is refused as ${code}, and the error does not repeat it`, () => {
          assert.throws(
            () => redeeming(token(), membership.createIdentity(crypto), nowMs),
            (error: Error & { code?: string; fix?: string }) => {
              assert.equal(error.code, code)
              assert.ok(error.fix)
              assert.doesNotMatch(`${error.message} ${error.fix}`, /rzm\d_[\w-]{20}/)
              return true
            }
          )
        })
      }
    })
  })

  it('a refusal at the door becomes an error with the code and what to do', () => {
    for (const [code, expected] of [
      ['nameTaken', 'MESH_NAME_TAKEN'],
      ['prefixOverlap', 'MESH_PREFIX_OVERLAP'],
      ['clock', 'MESH_CLOCK'],
      ['version', 'MESH_VERSION']
    ] as const) {
      const origin = originOf(crypto.publicKeyOf(crypto.random(32)))
      const error = refusal({ kind: 'refused', peer: origin, code, detail: 'so', byPeer: true, proved: true })
      assert.equal(error.code, expected)
      assert.equal(error.message, 'the member refused this agent: so')
      assert.ok(error.fix)
    }
  })
})

const ADDRESS = `/ip4/203.0.113.11/tcp/7946/p2p/${originOf(crypto.publicKeyOf(crypto.random(32)))}`

/** The first view with the cluster of the second one as a further member. */
function withMember(view: MeshView, other: MeshView): MeshView {
  return { ...view, clusters: new Map([...view.clusters, ...other.clusters]) }
}

function viewOf(cluster: string, pods: string, services: string): MeshView {
  const name = cluster as ClusterName
  const view: ClusterView = {
    name,
    podPrefixes: [pods as Cidr],
    servicePrefixes: [services as Cidr],
    agents: [],
    services: new Map(),
    complete: true,
    conflicts: [],
    refusals: []
  }
  return { self: name, clusters: new Map([[name, view]]) }
}
