import { TransportProvider } from "@connectrpc/connect-query";
import { localStorageColorSchemeManager, MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { router } from "./router.tsx";
import { cssVariablesResolver, theme } from "./theme.ts";
import { queryClient, transport } from "./transport.ts";

const colorSchemeManager = localStorageColorSchemeManager({ key: "latchkey-color-scheme" });

/** What the Content-Security-Policy wants to see on the style elements that the component kit makes. */
const nonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? "";
// Where react-remove-scroll, which keeps the page still behind a dialog, looks for it.
Object.assign(globalThis, { __webpack_nonce__: nonce });

export function App() {
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={cssVariablesResolver}
      colorSchemeManager={colorSchemeManager}
      defaultColorScheme="auto"
      withGlobalClasses={false}
      getStyleNonce={() => nonce}
    >
      <Notifications position="bottom-right" limit={4} />
      <TransportProvider transport={transport}>
        <QueryClientProvider client={queryClient}>
          <RouterProvider router={router} />
        </QueryClientProvider>
      </TransportProvider>
    </MantineProvider>
  );
}
