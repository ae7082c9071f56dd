// What a restore does in which order, and what is left of one that failed. test/app/agent/backup.test.ts has real agents.
import assert from 'node:assert/strict'
import pino from 'pino'
import { restoreBackup } from '../../../src/app/enrolment/restoration.ts'
import { sealBackup } from '../../../src/app/identity/backup.ts'
import { createIdentity, initMesh } from '../../../src/app/identity/identity.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { AppError } from '../../../src/app/observe/errors.ts'
import { Health } from '../../../src/app/observe/health.ts'
import { codeOf } from '../../../src/core/model/coded-error.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { savedPart, type SavedIdentity } from '../../../src/io/store/identity.ts'
import type { Identity } from '../../../src/io/store/store.ts'

const crypto = createCrypto()
const PASSPHRASE = 'correct horse battery staple'
const HEADER = { cluster: 'west', meshId: 'mesh-a', peerId: 'former', made: '2026-11-27T10:00:00.000Z' }
const founded = () =>
  initMesh(
    { cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] },
    { crypto, identity: createIdentity(crypto), nowMs: 0, hostNetworks: [] }
  )
const west = founded()
const fileOf = (identity: SavedIdentity) =>
  sealBackup(
    { header: HEADER, identity, trust: [bytes(west.clusterItem ?? ''), new Uint8Array([1])] },
    PASSPHRASE,
    { N: 16, r: 8, p: 1 }
  )

/** A fresh agent whose calls are recorded. `fails`: the call that rejects. */
function agent({ fails, hasSecret = false }: { readonly fails?: string; readonly hasSecret?: boolean } = {}) {
  const before = createIdentity(crypto)
  const calls: string[] = []
  let identity: Identity | undefined = before
  const call = async (name: string): Promise<void> => {
    calls.push(name)
    if (name === fails) throw new AppError('CLUSTER_KEY_TAKEN', 'no')
  }
  const log = pino({ enabled: false })
  const parts = {
    crypto,
    log,
    health: new Health({ log, now: () => 0 }),
    node: { current: async () => before },
    source: { discover: async () => ({ podPrefixes: [], servicePrefixes: [], isWholeCluster: true }) },
    store: {
      saveTrust: (statements: readonly unknown[]) => call(`trust ${statements.length}`),
      saveIdentity: async (next: Identity) => {
        identity = next
        await call(next === before ? 'identity before' : 'identity restored')
      },
      forget: async () => {
        identity = undefined
        await call('forget')
      }
    },
    sharedKey: {
      find: async () => (hasSecret ? {} : undefined),
      found: () => call('secret'),
      retract: () => call('retract')
    }
  } as unknown as Parameters<typeof restoreBackup>[1]
  const entrance = {
    onHandshake: () => undefined,
    enter: () => call('enter')
  } as unknown as Parameters<typeof restoreBackup>[2]
  const restore = async (saved: SavedIdentity = savedPart(west)) =>
    restoreBackup({ file: await fileOf(saved), passphrase: PASSPHRASE }, parts, entrance)
  return { before, calls, restore, identity: () => identity }
}

describe('a restore', () => {
  it('has trust set and identity on disk before the key is in the Secret, and all that before it connects', async () => {
    const { before, calls, restore, identity } = agent()
    const { reached, header } = await restore()
    assert.deepEqual([reached, header], [false, HEADER])
    assert.deepEqual(calls, ['trust 1', 'identity restored', 'secret', 'enter'])
    const { nodeSeed, tunnelSeed, clusterSeed, seats, rootSeeds } = identity() ?? assert.fail()
    assert.deepEqual([nodeSeed, tunnelSeed], [before.nodeSeed, before.tunnelSeed])
    assert.deepEqual([clusterSeed, seats, rootSeeds], [west.clusterSeed, west.seats, undefined])
  })

  for (const [what, options, calls] of [
    [
      'the Secret has another key',
      { fails: 'secret', hasSecret: true },
      ['secret', 'forget', 'identity before']
    ],
    ['it cannot connect', { fails: 'enter' }, ['secret', 'enter', 'forget', 'identity before', 'retract']],
    ['the disk is full', { fails: 'trust 1' }, ['forget', 'identity before', 'retract']]
  ] as const)
    it(`leaves the agent as it was when ${what}, and another gateway's key in the Secret`, async () => {
      const made = agent(options)
      await assert.rejects(made.restore(), (error) => codeOf(error) === 'CLUSTER_KEY_TAKEN')
      assert.deepEqual(
        made.calls.filter((name) => !['trust 1', 'identity restored'].includes(name)),
        calls
      )
      assert.equal(made.identity(), made.before)
    })

  it('changes nothing for a backup whose parts do not belong together', async () => {
    const other = founded()
    const { pending: _, ...wrong } = west
    const bad: readonly Partial<Identity>[] = [
      { clusterSeed: other.clusterSeed },
      { clusterItem: other.clusterItem },
      { mesh: other.mesh },
      {
        seats: [{ adminSeed: other.seats?.[0]?.adminSeed ?? '', seatItem: west.seats?.[0]?.seatItem ?? '' }]
      },
      { clusterItem: undefined },
      { mesh: { k: 2, rootKeys: west.mesh?.rootKeys ?? [] } }
    ]
    for (const part of bad) {
      const { calls, restore } = agent()
      await assert.rejects(
        restore(savedPart({ ...wrong, ...part })),
        (error) => codeOf(error) === 'BACKUP_DAMAGED',
        JSON.stringify(Object.keys(part))
      )
      assert.deepEqual(calls, [])
    }
  })
})
