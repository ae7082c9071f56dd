// The identity's files are replaced while the agent runs: the next start must find the identity of this agent.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openStore, type Identity, type Store } from '../../../src/io/store/store.ts'

const seed = (): string => randomBytes(32).toString('base64')
const someIdentity = (): Identity => ({
  nodeSeed: seed(),
  tunnelSeed: seed(),
  clusterSeed: seed(),
  rootSeeds: [seed()],
  cluster: 'west',
  podPrefixes: ['10.1.0.0/16'],
  bootstrap: ['/ip4/192.0.2.1/tcp/7946'],
  joinedBy: 'init'
})

describe('an identity that is replaced under a running agent', () => {
  let root = ''
  let folder = ''
  let store: Store | undefined

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'rhizome-store-'))
    folder = join(root, 'state')
  })
  afterEach(async () => {
    await store?.close()
    rmSync(root, { recursive: true, force: true })
  })

  const open = async (at = folder): Promise<Store> => (store = await openStore({ folder: at, now: () => 0 }))
  const textOfOther = async (other: Identity): Promise<string> => {
    const elsewhere = await open(join(root, 'other'))
    await elsewhere.saveIdentity(other)
    await elsewhere.close()
    return readFileSync(join(root, 'other/identity.json'), 'utf8')
  }
  const put = (name: string, text: string | Buffer): void => {
    writeFileSync(join(folder, `${name}.new`), text, { mode: 0o600 })
    renameSync(join(folder, `${name}.new`), join(folder, name))
  }

  it('is written anew, and what stood in its place is kept', async () => {
    const [own, other] = [someIdentity(), someIdentity()]
    const others = await textOfOther(other)
    const texts = [others, '', '{}', others.slice(0, 100), randomBytes(64)]
    await (await open()).saveIdentity(own)
    for (const text of texts)
      for (const names of [
        ['identity.json'],
        ['identity.bak.json'],
        ['identity.json', 'identity.bak.json']
      ]) {
        for (const name of names) put(name, text)
        assert.equal(await store?.mend(), 'files')
        assert.equal(await store?.mend(), 'sound')
        for (const name of names) {
          const kept = readFileSync(join(folder, name.replace('identity', 'identity.replaced')))
          assert.deepEqual(kept, Buffer.from(text))
        }
        await store?.close()
        assert.deepEqual((await open()).identity(), own)
      }
  })
})
