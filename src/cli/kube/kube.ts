// The Kubernetes API for `install` and `uninstall`: the client of the agent (src/io/kube), with errors that name the flags of meshctl.
import { CodedError, codeOf } from '../../core/model/coded-error.ts'
import type { KubeApi } from '../../core/kube/kube-api.ts'
import { openKubeClient, type KubeClient } from '../../io/kube/client.ts'
import { CliError } from '../output/errors.ts'

export interface KubeOptions {
  readonly kubeconfig: string | undefined
  readonly context: string | undefined
  /** For one request. */
  readonly timeoutMs: number
}

export interface KubeTarget extends KubeApi {
  /** "https://10.0.0.1:6443" */
  readonly server: string
}

/** The API server answered with a status other than 2xx. */
class KubeStatusError extends CliError {
  readonly status: number

  constructor(status: number, { message }: Error) {
    const [code, fix] = EXPLAINED[status] ?? ['REFUSED_BY_KUBERNETES', 'see what the API server says']
    super(code, message, fix)
    this.status = status
  }
}

const EXPLAINED: Readonly<Record<number, readonly [code: string, fix: string]>> = {
  401: ['UNAUTHORIZED', 'log in again: the credentials of the kubeconfig are not accepted'],
  403: [
    'FORBIDDEN',
    'use an account that may make cluster-wide objects, such as cluster-admin; or render with --dry-run and have it applied'
  ],
  404: ['NOT_IN_CLUSTER', 'check the name, and the version of Kubernetes'],
  409: ['CONFLICT', 'another client changed it at the same time: run the command again']
}
// Lists of the objects of one installation are small, so a larger answer is refused.
const ANSWER_BYTES_MAX = 16 * 1024 * 1024

/** Errors: CliError BAD_KUBECONFIG; of a request: KubeStatusError, CliError KUBERNETES_UNREACHABLE, BAD_KUBECONFIG. */
export async function openKube({ kubeconfig, context, timeoutMs }: KubeOptions): Promise<KubeTarget> {
  let client: KubeClient
  try {
    client = await openKubeClient({ kubeconfig, context, searches: true, userAgent: 'meshctl' })
  } catch (error) {
    throw badKubeconfig(causeOf(error))
  }
  const { server } = client
  return {
    server,
    async request(call) {
      try {
        return await client.request({ ...call, deadlineMs: timeoutMs, bytesMax: ANSWER_BYTES_MAX })
      } catch (error) {
        throw explained(error, server)
      }
    }
  }
}

function explained(error: unknown, server: string): CliError {
  if (error instanceof Error && 'status' in error && typeof error.status === 'number')
    return new KubeStatusError(error.status, error)
  const cause = causeOf(error)
  if (codeOf(error) === 'BAD_CONFIG' || (cause instanceof Error && cause.name === 'CredentialsError'))
    return badKubeconfig(cause)
  return new CliError(
    'KUBERNETES_UNREACHABLE',
    `cannot ask ${server}: ${reasonOf(cause)}`,
    'check the kubeconfig (--kubeconfig, --context) and the network',
    { cause: error }
  )
}

/** What the client of src/io/kube wrapped into its own error; the error itself where there is nothing below it. */
function causeOf(error: unknown): unknown {
  return error instanceof CodedError && error.cause !== undefined ? error.cause : error
}

/** An AggregateError of a failed connection has no message. */
function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error)
}

function badKubeconfig(cause: unknown): CliError {
  return new CliError(
    'BAD_KUBECONFIG',
    `the kubeconfig cannot be used: ${reasonOf(cause)}`,
    'name one with --kubeconfig FILE (or KUBECONFIG), and a context of it with --context NAME',
    { cause }
  )
}
