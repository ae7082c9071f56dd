// Tokens for one more gateway, as text.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { originOf } from '../../../src/core/model/identity.ts'
import {
  decodeGatewayToken,
  encodeGatewayToken,
  isGatewayToken
} from '../../../src/core/trust/gateway-token.ts'
import { decodeInviteToken } from '../../../src/core/trust/invite-token.ts'
import { keyId } from '../../../src/core/trust/set/ids.ts'
import { encodeTokenText } from '../../../src/core/trust/token-text.ts'
import { encodeMessage, wire } from '../../../src/core/wire/messages.ts'
import { clusterName, crypto, makeMesh, NOW } from './fixtures.ts'

const { roots } = makeMesh()
const seed = crypto.random(32)
const clusterSeed = crypto.random(32)
const clusterKey = keyId(crypto.publicKeyOf(clusterSeed))
const peer = originOf(crypto.publicKeyOf(crypto.random(32)))
const bootstrap = [`/ip4/192.0.2.1/tcp/7946/p2p/${peer}`]
const token = { roots, cluster: clusterName('edge'), clusterKey, seed, notAfter: NOW, bootstrap }
const text = encodeGatewayToken(crypto, token)

describe('the token of a gateway', () => {
  it('has all that the new gateway needs to find and check the other one', () => {
    const read = decodeGatewayToken(crypto, ` ${text.slice(0, 30)}\n${text.slice(30)} `)
    assert.ok(read.kind === 'token')
    assert.equal(keyId(read.roots.meshId), keyId(roots.meshId))
    assert.deepEqual(
      [read.cluster, read.clusterKey, read.notAfter, read.bootstrap],
      ['edge', clusterKey, NOW, bootstrap]
    )
    assert.equal(keyId(read.seed), keyId(seed))
  })

  it('is told from the token of a cluster', () => {
    assert.ok(isGatewayToken(text) && isGatewayToken(`\n ${text}`))
    assert.ok(!isGatewayToken('rzm2_abc') && !isGatewayToken(''))
    const other = decodeInviteToken(text, { crypto, nowSeconds: NOW, meshId: undefined })
    assert.ok(other.kind === 'refused' && other.code === 'notAToken')
  })

  it('is refused when a letter is wrong, a part is missing, or the version is another one', () => {
    const code = (of: string) => {
      const read = decodeGatewayToken(crypto, of)
      return read.kind === 'refused' ? read.code : read.kind
    }
    assert.equal(code(text.slice(0, -3)), 'damaged')
    assert.equal(code(text.replace('rzg2_', 'rzg1_')), 'olderVersion')
    assert.equal(code(text.replace('rzg2_', 'rzg3_')), 'newerVersion')
    assert.equal(code('rzm2_abc'), 'notAToken')
    assert.equal(code(''), 'empty')
  })

  it('is malformed without 32 bytes of key and secret, a name, roots, or an address with a PeerId', () => {
    const whole = {
      k: 1,
      rootKeys: roots.keys,
      clusterKey: crypto.publicKeyOf(clusterSeed),
      cluster: 'edge',
      seed,
      notAfter: NOW,
      bootstrap
    }
    const wrong: readonly object[] = [
      { clusterKey: new Uint8Array(31) },
      { seed: new Uint8Array(33) },
      { cluster: 'Edge!' },
      { rootKeys: [] },
      { k: 2 },
      { bootstrap: [] },
      { bootstrap: ['/ip4/192.0.2.1/tcp/7946'] }
    ]
    for (const fields of wrong) {
      const body = encodeMessage<object>(wire.GatewayToken, { ...whole, ...fields })
      const read = decodeGatewayToken(crypto, encodeTokenText(crypto, 'rzg', body))
      assert.ok(read.kind === 'refused' && read.code === 'malformed', Object.keys(fields).join())
      assert.ok(!read.message.includes(text.slice(5, 20)))
    }
  })

  it('never throws, whatever the text', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map((end) => `rzg2_${end}`)
        ),
        (any) => {
          assert.equal(decodeGatewayToken(crypto, any).kind, 'refused')
        }
      )
    )
  })
})
