// `meshctl version` prints the version of this program and, when meshd can be reached, that of meshd. Reports of faults
// need both. It ends with 0 without meshd, too, so that it can be run before meshd is started. `meshctl --version` does
// not ask meshd at all.
import type { Command } from 'commander'
import { API_VERSION, type Answer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { CliError } from '../output/errors.ts'
import { release } from '../release.ts'
import { formatFields } from '../output/table.ts'

/** The answer of `version --json`. meshctl makes it, because one half describes meshctl itself. */
interface VersionAnswer extends Answer {
  /** The version of meshctl, and the version of the Node.js that runs it. */
  readonly client: { readonly version: string; readonly node: string }
  /** The version of meshd; absent when meshd did not answer. */
  readonly agent?: { readonly version: string }
  /** Why `agent` is absent, with the code of the CliError. */
  readonly agentError?: { readonly code: string; readonly message: string }
}

// The version of meshd is optional here, so its request may take 2 s.
const TIMEOUT_MS = 2000

/** Adds the command `version`. A CliError of the request becomes `agentError`; the command itself succeeds. */
export function addVersion(program: Command): void {
  const command = program
    .command('version')
    .summary('the versions of meshctl and of meshd')
    .description(
      'Prints the version of meshctl and, when meshd can be reached, that of meshd. The exit code is 0 in both cases.'
    )
    .action(async () => {
      const context = contextOf(command)
      const client = { version: release(), node: process.versions.node }
      const answer: VersionAnswer = await context.client
        .request(ENDPOINTS.status, {
          field: 'version',
          doing: 'asking meshd',
          timeoutMs: TIMEOUT_MS
        })
        .then(
          ({ version }) => ({ apiVersion: API_VERSION, client, agent: { version } }),
          (error: unknown) => {
            if (!(error instanceof CliError)) throw error
            const { code, message } = error
            return { apiVersion: API_VERSION, client, agentError: { code, message } }
          }
        )
      print(context, answer, (clean) => ({
        body: formatFields([
          ['meshctl', `${clean.client.version} (API ${clean.apiVersion}, Node ${clean.client.node})`],
          ['meshd', clean.agent?.version ?? `unknown: ${clean.agentError?.message ?? ''}`]
        ])
      }))
    })
  addExamples(command, [
    ['Both versions', 'meshctl version'],
    ['Only the version of meshctl', 'meshctl --version']
  ])
}
