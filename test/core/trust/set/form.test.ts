// Bytes to statements: with Ed25519, with every kind, with damaged and hostile bytes.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { createCrypto } from '../../../../src/io/crypto/crypto.ts'
import { decodeBody, encodeBody } from '../../../../src/core/trust/set/codec.ts'
import { KEEP_MAX } from '../../../../src/core/trust/set/fields.ts'
import { encodeItem, openItem } from '../../../../src/core/trust/set/form.ts'
import { HIGHEST_FIELD } from '../../../../src/core/trust/set/later-fields.ts'
import { FORM_RULES } from '../../../../src/core/trust/set/form-rules.ts'
import { bytesOf, type ShortId, shortOf } from '../../../../src/core/trust/set/ids.ts'
import { meshRoots } from '../../../../src/core/trust/set/mesh-roots.ts'
import { ED25519_TORSION_SUBGROUP } from '@noble/curves/ed25519.js'
import { encodeMessage, wire } from '../../../../src/core/wire/messages.ts'
import { flipBit } from '../fixtures.ts'
import { type Thing, World } from './world.ts'

/** One item of each kind, signed with Ed25519. */
function everyKind(): { readonly world: World; readonly things: readonly Thing[] } {
  const world = new World({ crypto: createCrypto(), k: 2, roots: 3 })
  const founder = world.found('west', ['10.1.0.0/16'])
  const seat = world.seat()
  const child = world.seat({ under: seat, names: ['e*'] })
  const east = world.join(child, founder, 1, 'east', {
    pods: ['10.2.0.0/16', 'fd00:2::/48'],
    services: ['10.102.0.0/16'],
    replaces: founder
  })
  const things = [
    founder,
    seat,
    child,
    east,
    world.invite(child, 'east'),
    world.grant(child, east, { pods: ['10.3.0.0/16'], drop: ['10.2.0.0/24'] }),
    world.bar({ seat: child }, east, [founder, seat]),
    world.bar({ cluster: east }, { agent: east.key }),
    world.decide(child, 'east', east),
    world.void('roots', child, [east, seat]),
    world.agent(east, 7)
  ]
  return { world, things }
}

const { world, things } = everyKind()
const open = (item: Uint8Array) => openItem(world, item)

describe('an item of statements', () => {
  it('of each kind opens, and its body decodes to what was encoded', () => {
    const kinds = things.map(({ item, id }) => {
      const opened = open(item)
      assert.ok(opened.kind === 'item', JSON.stringify(opened))
      const { statement } = opened.statements.at(-1) ?? {}
      assert.equal(statement?.id, id)
      const { id: _, ...draft } = statement
      const again = decodeBody(world.crypto, FORM_RULES, encodeBody(draft, new Uint8Array(16)))
      assert.ok(again.kind !== 'refused')
      assert.deepEqual({ ...again, id }, statement)
      return statement.kind
    })
    assert.equal(new Set(kinds).size, 9)
  })

  it('with one bit flipped is refused, whichever it is', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), (which, bit) => {
        const { item } = things[which % things.length] as Thing
        const opened = open(flipBit(item, bit % (8 * item.length)))
        assert.equal(opened.kind, 'refused')
      }),
      { numRuns: 150 }
    )
  })

  it('with a statement twice is refused, whichever it is', () => {
    for (const { item, envelopes } of things) {
      assert.equal(open(item).kind, 'item')
      for (const [at, envelope] of envelopes.entries()) {
        const found = open(encodeItem(envelopes.toSpliced(at, 0, envelope)))
        assert.equal(found.kind, 'refused')
      }
    }
  })

  it('of any bytes is refused with a reason and a fix, and nothing is thrown', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const item of [
          bytes,
          encodeItem([bytes]),
          encodeItem([encodeMessage(wire.Statement, { body: bytes })])
        ]) {
          const opened = open(item)
          assert.ok(opened.kind === 'refused' && opened.reason !== '' && opened.fix !== '')
        }
      }),
      { numRuns: 300 }
    )
  })

  it('of a kind that this version does not know is counted, and no offence', () => {
    const body = Uint8Array.of(0xa2, 0x01, 0x00) // field 20, an empty message
    const opened = open(encodeItem([encodeMessage(wire.Statement, { body })]))
    assert.equal(opened.kind === 'refused' && opened.rule, 'later')
  })

  it('with a field that this version does not know is counted, and no offence; it is not taken without the field', () => {
    const nonce = new Uint8Array(16)
    const id = new Uint8Array(32).fill(7)
    const inner = encodeMessage<object>(wire.VoidBody, { target: id })
    const bodyOf = (content: Uint8Array, end: readonly number[] = []) =>
      Uint8Array.from([
        0x32,
        content.length,
        ...content,
        ...encodeMessage<object>(wire.StatementBody, { nonce }),
        ...end
      ])
    const rule = (body: Uint8Array) => {
      const found = decodeBody(world.crypto, FORM_RULES, body)
      return found.kind === 'refused' ? found.rule : found.kind
    }
    assert.equal(rule(bodyOf(inner)), 'void')
    assert.equal(rule(bodyOf(Uint8Array.from([...inner, 0x20, 0x01]))), 'later', 'field 4 of a Void')
    assert.equal(rule(bodyOf(inner, [0x82, 0x01, 0x00])), 'later', 'field 16 of a body')
    // What no version of this program writes is an offence: a known field twice, or with its default.
    assert.equal(rule(bodyOf(Uint8Array.from([...inner, ...inner]))), 'F1')
    assert.equal(rule(bodyOf(Uint8Array.from([0x0a, 0x00, ...inner]))), 'F1')
  })

  it('has the numbers of proto/mesh.proto, and no other', () => {
    const proto = readFileSync(join(import.meta.dirname, '../../../../proto/mesh.proto'), 'utf8')
    for (const [kind, highest] of Object.entries(HIGHEST_FIELD)) {
      const name = `${kind.charAt(0).toUpperCase()}${kind.slice(1)}Body`
      const [, fields = ''] = new RegExp(`message ${name} \\{([^}]*)\\}`).exec(proto) ?? []
      const numbers = Array.from(fields.matchAll(/= (\d+);/g), ([, number]) => Number(number))
      assert.deepEqual(
        numbers,
        Array.from({ length: highest }, (_, at) => at + 1),
        name
      )
    }
  })

  it('with two kinds in one body is refused', () => {
    const nonce = new Uint8Array(16)
    const both = encodeMessage(wire.StatementBody, { seat: {}, void: {}, nonce })
    const found = decodeBody(world.crypto, FORM_RULES, both)
    assert.equal(found.kind === 'refused' && found.rule, 'F1')
  })

  it('names the field that is wrong', () => {
    const id = new Uint8Array(32)
    const key = world.crypto.publicKeyOf(id)
    const body = { under: id, target: id }
    const wrong: readonly (readonly [string, object])[] = [
      ['target', { void: { under: id, target: new Uint8Array(31) } }],
      ['keep', { void: { ...body, keep: [Uint8Array.of(1)] } }],
      ['keep', { void: { ...body, keep: [id.subarray(16), id.subarray(16)] } }],
      ['name', { decide: { under: id, name: 'local', clusterKey: key } }],
      ['clusterKey', { decide: { under: id, name: 'east', clusterKey: id } }],
      ['by', { bar: { under: id, byCluster: key, clusterKey: key } }],
      ['target', { bar: { under: id, clusterKey: key, agentKey: key } }],
      ['seen', { admission: { invite: id, clusterKey: key, sponsorKey: key } }],
      [
        'drop',
        { grant: { under: id, clusterKey: key, drop: [{ address: Uint8Array.of(10, 0, 0, 1), length: 8 }] } }
      ],
      [
        'add.pods',
        {
          grant: {
            under: id,
            clusterKey: key,
            addPods: [{ address: Uint8Array.of(127, 0, 0, 0), length: 8 }]
          }
        }
      ],
      ['names', { seat: { adminKey: key, names: ['b', 'a'] } }],
      ['names', { seat: { adminKey: key, names: ['a*b'] } }],
      ['label', { seat: { adminKey: key, label: 'a\u202eb' } }],
      ['roles', { agentCert: { clusterKey: key, agentKey: key, node: 'n', roles: ['root'] } }],
      ['node', { agentCert: { clusterKey: key, agentKey: key, node: '../n', roles: ['node'] } }],
      ['notAfter', { invite: { under: id, inviteKey: key, cluster: 'east', notBefore: 2, notAfter: 1 } }],
      [
        'pods',
        {
          clusterCert: {
            invite: id,
            name: 'east',
            clusterKey: key,
            pods: [{ address: Uint8Array.of(10, 0, 0, 0), length: 8 }]
          }
        }
      ]
    ]
    for (const [field, message] of wrong) {
      const bytes = encodeMessage<object>(wire.StatementBody, { ...message, nonce: new Uint8Array(16) })
      const found = decodeBody(world.crypto, FORM_RULES, bytes)
      assert.equal(found.kind === 'refused' && found.field, field, JSON.stringify(found))
    }
    const bare = decodeBody(world.crypto, FORM_RULES, encodeMessage(wire.StatementBody, { void: body }))
    assert.equal(bare.kind === 'refused' && bare.field, 'nonce')
  })

  it('keeps as many ids as the largest subtree has, and no more', () => {
    const ids = Array.from({ length: KEEP_MAX + 1 }, (_, at) => at.toString(16).padStart(32, '0') as ShortId)
    const sized = (count: number) => {
      const draft = {
        kind: 'void',
        under: undefined,
        target: things[1]?.id,
        keep: new Set(ids.slice(0, count))
      } as const
      assert.ok(draft.target)
      return open(world.byRoots({ ...draft, target: draft.target }).item).kind
    }
    assert.equal(sized(KEEP_MAX), 'item')
    assert.equal(sized(KEEP_MAX + 1), 'refused')
  })

  it('does not verify again what is held with the same signatures, and does with others', () => {
    let verified = 0
    const crypto = {
      ...world.crypto,
      verify: (...args: Parameters<typeof world.crypto.verify>) => {
        verified++
        return world.crypto.verify(...args)
      }
    }
    const child = things[2] as Thing
    const held = new Map([[child.id, child.envelopes.at(-1) as Uint8Array]])
    const context = { crypto, roots: world.roots, known: (id: Thing['id']) => held.get(id) }
    assert.equal(openItem(context, child.item).kind, 'item')
    assert.equal(verified, 2, 'the two roots that signed the parent')
    held.set(child.id, Uint8Array.of(1))
    assert.equal(openItem(context, child.item).kind, 'item')
    assert.equal(verified, 5)
  })
})

describe('the roots of a mesh', () => {
  const keys = Array.from({ length: 6 }, (_, at) =>
    world.crypto.publicKeyOf(world.crypto.sha256(Uint8Array.of(at)))
  )

  it('give one id in any order, and another one for each k', () => {
    const of = (k: number, list: readonly Uint8Array[]) => meshRoots(world.crypto, k, list).meshId
    const three = keys.slice(0, 3)
    assert.deepEqual(of(2, three), of(2, three.toReversed()))
    assert.notDeepEqual(of(2, three), of(1, three))
    assert.notDeepEqual(of(2, three), of(2, keys.slice(0, 2)))
  })

  it('are 1 to 5 keys that F2 accepts, of which k sign', () => {
    const small = Uint8Array.from(Buffer.from(ED25519_TORSION_SUBGROUP[1] ?? '', 'hex'))
    for (const [k, list] of [
      [1, []],
      [1, keys],
      [0, keys.slice(0, 1)],
      [2, keys.slice(0, 1)],
      [1, [keys[0], keys[0]]],
      [1, [small]]
    ] as const)
      assert.throws(() => meshRoots(world.crypto, k, list as readonly Uint8Array[]), RangeError)
  })

  it('have ids that are text and bytes alike', () => {
    const id = (things[0] as Thing).id
    assert.equal(bytesOf(id).length, 32)
    assert.equal(bytesOf(shortOf(id)).length, 16)
  })
})
