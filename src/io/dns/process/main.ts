// meshd-dns: started by meshd, and by nothing else: node meshd-dns.js <control socket> <version>. See responder.ts.
import { runResponder } from './responder.ts'

const [, , control = '', version = ''] = process.argv
// It belongs to no terminal and no session; a service manager that ends it sends SIGTERM.
process.on('SIGHUP', () => undefined)
process.on('SIGTERM', () => process.exit(0))
process.on('SIGINT', () => process.exit(0))
const responder = await runResponder({ control, version, exit: (code) => process.exit(code) })
process.on('uncaughtException', (error) => responder.fail(error))
