import { Command } from "commander";
import { defaults } from "#cmd/containerd/config/config.ts";
import type { Flags } from "#cmd/containerd/flags.ts";

interface Options {
  readonly config: string;
  readonly logLevel?: string;
  readonly address?: string;
  readonly root?: string;
  readonly state?: string;
  readonly version?: true;
}

// What a command needs is loaded when it runs: the version should not wait for the daemon's
// modules.

async function printVersion(): Promise<void> {
  const { product, readRevision } = await import("#pkg/version.ts");
  const { projectDir } = await import("#cmd/containerd/project.ts");
  const revision = await readRevision(projectDir);
  console.log(`${product.name} ${product.package} ${product.version} ${revision}`);
}

async function printConfig(which: "default" | "effective", flags: Flags): Promise<void> {
  const { configText } = await import("#cmd/containerd/config-command.ts");
  process.stdout.write(await configText(which, flags));
}

/** What `containerd` takes on its command line. */
export function commandLine(): Command {
  const program = new Command("containerd");
  const flags = (): Flags => {
    const options = program.opts<Options>();
    return { ...options, configGiven: program.getOptionValueSource("config") === "cli" };
  };
  program
    .description("high performance container runtime")
    .option("-c, --config <file>", "Path to the configuration file", defaults.configFile)
    .option(
      "-l, --log-level <level>",
      "Set the logging level [trace, debug, info, warn, error, fatal, panic]",
    )
    .option("-a, --address <path>", "Address for containerd's GRPC server")
    .option("--root <dir>", "containerd root directory")
    .option("--state <dir>", "containerd state directory")
    .option("-v, --version", "Print the version")
    .helpOption("-h, --help", "Show help")
    .action(async () => {
      if (program.opts<Options>().version) return printVersion();
      const { runDaemon } = await import("#cmd/containerd/run.ts");
      return runDaemon(flags());
    });
  const config = program.command("config").description("Information on the containerd config");
  config
    .command("default")
    .description("See the output of the default config")
    .action(() => printConfig("default", flags()));
  config
    .command("dump")
    .description("See the output of the final main config with imported in subconfig files")
    .action(() => printConfig("effective", flags()));
  config
    .command("migrate")
    .description("Migrate the current configuration file to the latest version")
    .action(() => printConfig("effective", flags()));
  const hosts = program.command("hosts").description("Registries and the hosts asked for them");
  hosts
    .command("explain")
    .description("See which hosts would be asked for an image, in which order and why; asks none")
    .argument("<ref>", "Reference of an image, in full: docker.io/library/redis:7")
    .option("--host-dir <dir>", "Directory of host configuration instead of the configured ones")
    .action(async (ref: string, options: { readonly hostDir?: string }) => {
      const { explanation } = await import("#cmd/containerd/hosts-command.ts");
      process.stdout.write(await explanation(ref, { flags: flags(), hostDir: options.hostDir }));
    });
  addSystem(program, flags);
  return program;
}

/** Commands of ours: what a disk is full of, and why. */
function addSystem(program: Command, flags: () => Flags): void {
  const system = program.command("system").description("What is stored, and what keeps it");
  system
    .command("df")
    .description("See what is stored by namespace and kind, and what the next collection takes")
    .action(async () => {
      const { usageText } = await import("#cmd/containerd/system-command.ts");
      process.stdout.write(await usageText(flags()));
    });
  system
    .command("why")
    .description("See which images, containers, leases and labels keep something, and by which way")
    .argument("<name>", "Digest or beginning of one, key of a snapshot, name of an image")
    .action(async (name: string) => {
      const { whyText } = await import("#cmd/containerd/system-command.ts");
      process.stdout.write(await whyText(name, flags()));
    });
}
