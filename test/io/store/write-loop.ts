// Child of store.test.ts: writes for ever and prints the seq of each acknowledged batch, until it is killed.
import { writeSync } from 'node:fs'
import { parseOrigin } from '../../../src/core/model/identity.ts'
import { openStore } from '../../../src/io/store/store.ts'

const [folder = '', name = '', first = '1'] = process.argv.slice(2)
const origin = parseOrigin(name)
if (origin === undefined) throw new Error('no origin')
const store = await openStore({ folder, now: Date.now })
for (let seq = Number(first); ; seq += 1) {
  const value = new TextEncoder().encode(`value ${seq} ${'x'.repeat(500)}`)
  await store.persist(
    {
      origin,
      epoch: 1,
      seq,
      head: new TextEncoder().encode(`head ${seq}`),
      replace: seq % 100 === 0,
      operations: [
        { key: `svc/shop/k${seq % 50}`, seq, value },
        { key: 'agent', seq, value }
      ]
    },
    { sync: false }
  )
  if (seq % 20 === 0) await store.saveCounters({ epoch: 1, seqReserved: seq })
  writeSync(1, `${seq}\n`)
}
