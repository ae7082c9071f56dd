// The state folder of a running agent: what is wrong with it is a fault at once, and not only at the next start.
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StoreKeeper } from '../../../src/app/agent/store-keeper.ts'
import { createIdentity } from '../../../src/app/identity/identity.ts'
import { Health } from '../../../src/app/observe/health.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { openStore, type Store } from '../../../src/io/store/store.ts'
import { SILENT } from '../control/trust-parts.ts'

describe('the state folder of a running agent', () => {
  let folder: string
  let store: Store
  let health: Health
  let keeper: StoreKeeper

  beforeEach(async () => {
    folder = join(mkdtempSync(join(tmpdir(), 'keeper-')), 'state')
    store = await openStore({ folder, now: Date.now })
    await store.saveIdentity(createIdentity(createCrypto()))
    health = new Health({ log: SILENT, now: Date.now })
    keeper = new StoreKeeper({
      store,
      health,
      nowMs: () => 0,
      onReplicaLost: () => undefined,
      mendMore: async () => undefined
    })
  })

  afterEach(async () => {
    await store.close()
    rmSync(join(folder, '..'), { recursive: true })
  })

  const codes = () => health.faults().map(({ code }) => code)

  for (const [what, path, mode, good] of [
    ['the folder can be written by all users', '.', 0o777, 0o700],
    ['the identity can be read by all users', 'identity.json', 0o644, 0o600],
    ['the copy of the identity can be read by the group', 'identity.bak.json', 0o640, 0o600]
  ] as const) {
    it(`has the fault STATE_EXPOSED while ${what}`, async () => {
      await keeper.look()
      assert.deepEqual(codes(), [])
      chmodSync(join(folder, path), mode)
      await keeper.look()
      assert.deepEqual(codes(), ['STATE_EXPOSED'])
      const [fault] = health.faults()
      assert.match(fault?.message ?? '', /(written by|open to) other users \(mode 0\d{3}\)/)
      assert.match(fault?.fix ?? '', /chmod [67]00/)
      assert.equal(statSync(join(folder, path)).mode & 0o777, mode, 'the operator looks first')
      chmodSync(join(folder, path), good)
      await keeper.look()
      assert.deepEqual(codes(), [])
    })
  }

  it('is closed again when other users can only list it, as at a start', async () => {
    chmodSync(folder, 0o755)
    await keeper.look()
    assert.equal(statSync(folder).mode & 0o777, 0o700)
    assert.deepEqual(codes(), [])
    assert.match(store.warnings.join(), /other users could read .* \(mode 0755\)/)
    chmodSync(folder, 0o755)
    await keeper.look()
    assert.equal(store.warnings.length, 1, 'said once')
  })
})
