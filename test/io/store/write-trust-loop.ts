// Child of trust.test.ts: writes trust for ever and prints the number of each acknowledged round, until it is killed.
import { createHash } from 'node:crypto'
import { writeSync } from 'node:fs'
import type { KeyId, StatementId } from '../../../src/core/trust/set/ids.ts'
import { openStore } from '../../../src/io/store/store.ts'

const [folder = '', first = '1'] = process.argv.slice(2)
const hash = (text: string): string => createHash('sha256').update(text).digest('hex')
const key = hash('key own') as KeyId
const store = await openStore({ folder, now: Date.now })
for (let seq = Number(first); ; seq++) {
  const item = new TextEncoder().encode(`${seq} ${'x'.repeat(500)}`)
  await store.saveTrust([{ id: hash(String(seq)) as StatementId, item }])
  await store.removeTrust([hash(String(seq - 10)) as StatementId])
  await store.saveOwners(new Map([[`name c${seq}`, key]]))
  await store.saveGenerations(new Map([[key, seq]]))
  writeSync(1, `${seq}\n`)
}
